// The rings between an AF_XDP socket and the kernel: linux/if_xdp.h.
//
// A ring has a producer and a consumer, one of which is the kernel. Both have a counter modulo
// 2^32; the entries between the counters are filled. The producer writes an entry before it moves
// its counter (release), and the consumer reads the counter before the entry (acquire). For free
// entries the roles are exchanged.
#pragma once

#include <linux/if_xdp.h>

#include <cstdint>
#include <memory>

#include "mapping.h"

namespace baton {

// A ring in memory, at the offsets that the kernel gives.
template <typename Entry>
class XdpQueueRing {
 public:
  XdpQueueRing() = default;
  XdpQueueRing(int fd, uint64_t page_offset, const xdp_ring_offset& at, uint32_t entries)
      : mapping_(std::make_unique<Mapping>(
            fd, at.desc + static_cast<size_t>(entries) * sizeof(Entry), page_offset)),
        producer_(reinterpret_cast<uint32_t*>(mapping_->base() + at.producer)),
        consumer_(reinterpret_cast<uint32_t*>(mapping_->base() + at.consumer)),
        flags_(reinterpret_cast<uint32_t*>(mapping_->base() + at.flags)),
        entries_(reinterpret_cast<Entry*>(mapping_->base() + at.desc)),
        size_(entries) {}

  // True if the kernel needs a system call to continue.
  bool needs_wakeup() const {
    return (__atomic_load_n(flags_, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0;
  }

 protected:
  Entry& At(uint32_t index) const { return entries_[index & (size_ - 1)]; }

  std::unique_ptr<Mapping> mapping_;
  uint32_t* producer_ = nullptr;
  uint32_t* consumer_ = nullptr;
  uint32_t* flags_ = nullptr;
  Entry* entries_ = nullptr;
  uint32_t size_ = 0;
  // Our counter, which is ahead of the shared one until Publish().
  uint32_t own_ = 0;
};

// A ring that this process fills and the kernel empties: fill and transmit.
template <typename Entry>
class ProducerRing : public XdpQueueRing<Entry> {
 public:
  using XdpQueueRing<Entry>::XdpQueueRing;

  // The number of entries that the kernel has taken since the start, modulo 2^32.
  uint32_t taken() const { return __atomic_load_n(this->consumer_, __ATOMIC_ACQUIRE); }
  // The number of entries that the kernel has not taken yet.
  uint32_t waiting() const { return this->own_ - taken(); }
  bool full() const { return waiting() == this->size_; }
  // Must not be called when the ring is full.
  void Put(const Entry& entry) { this->At(this->own_++) = entry; }
  void Publish() { __atomic_store_n(this->producer_, this->own_, __ATOMIC_RELEASE); }
};

// A ring that the kernel fills and this process empties: receive and completion.
template <typename Entry>
class ConsumerRing : public XdpQueueRing<Entry> {
 public:
  using XdpQueueRing<Entry>::XdpQueueRing;

  uint32_t waiting() const {
    return __atomic_load_n(this->producer_, __ATOMIC_ACQUIRE) - this->own_;
  }
  // Must not be called when no entry is waiting.
  Entry Take() { return this->At(this->own_++); }
  void Publish() { __atomic_store_n(this->consumer_, this->own_, __ATOMIC_RELEASE); }
};

}  // namespace baton
