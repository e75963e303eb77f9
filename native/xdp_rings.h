// The rings between an AF_XDP socket and the kernel: linux/if_xdp.h.
//
// Each has a producer and a consumer, both counters that go round with 32 bits; one of the two is
// the kernel. What lies between them is filled. An entry is written before the producer moves on
// (release), and read after its move is seen (acquire); and the same the other way round for what
// is free.
#pragma once

#include <linux/if_xdp.h>

#include <cstdint>
#include <memory>

#include "mapping.h"

namespace baton {

// A ring in memory: places as the kernel tells them.
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

  // Whether the kernel waits to be called.
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
  // Our own counter, ahead of the shared one until Publish().
  uint32_t own_ = 0;
};

// Filled here, emptied by the kernel: fill and transmit.
template <typename Entry>
class ProducerRing : public XdpQueueRing<Entry> {
 public:
  using XdpQueueRing<Entry>::XdpQueueRing;

  // How many the kernel took since the start, modulo 2^32.
  uint32_t taken() const { return __atomic_load_n(this->consumer_, __ATOMIC_ACQUIRE); }
  // Entries that the kernel has not taken.
  uint32_t waiting() const { return this->own_ - taken(); }
  bool full() const { return waiting() == this->size_; }
  // Must not be called when it is full.
  void Put(const Entry& entry) { this->At(this->own_++) = entry; }
  void Publish() { __atomic_store_n(this->producer_, this->own_, __ATOMIC_RELEASE); }
};

// Filled by the kernel, emptied here: receive and completion.
template <typename Entry>
class ConsumerRing : public XdpQueueRing<Entry> {
 public:
  using XdpQueueRing<Entry>::XdpQueueRing;

  uint32_t waiting() const {
    return __atomic_load_n(this->producer_, __ATOMIC_ACQUIRE) - this->own_;
  }
  // Must not be called more often than entries wait.
  Entry Take() { return this->At(this->own_++); }
  void Publish() { __atomic_store_n(this->consumer_, this->own_, __ATOMIC_RELEASE); }
};

}  // namespace baton
