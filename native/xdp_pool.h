// The AF_XDP sockets of one interface and the frames that they share.
//
//     memory   | queue 0: frame 0 | frame 1 | ... | queue 1: ... | free lists of worker 0 | worker
//     1 | ...
//
// One memory for all queues (UMEM), so that a frame can leave by another queue than the one it came
// by; for each queue a fill and a completion ring; on each queue a socket for each worker, with a
// receive and a transmit ring of its own. Each frame has a home, the queue in whose part of the
// memory it lies, and goes back there when it is done with:
//
//     fill ring -> kernel -> receive ring -> worker -> transmit ring -> kernel -> completion ring
//         ^                                     |  ^                                    |
//         +--------- home, under its lock <-----+  +---- free list <-- home <-----------+
//
// A worker is a thread. Receive and transmit rings are its own; the rings of a queue are shared
// under the queue's lock. Nothing here knows JavaScript; failures are SystemError.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "errors.h"
#include "mapping.h"
#include "xdp_rings.h"

namespace baton {

struct XdpPoolOptions {
  uint32_t interface_index = 0;
  uint32_t queues = 0;
  uint32_t transmit_queues = 0;
  uint32_t workers = 0;
  uint32_t frames_per_queue = 0;
  uint32_t frame_bytes = 0;
  bool zero_copy = false;
};

// A worker's socket on a queue.
struct XdpSocket {
  Fd fd;
  ConsumerRing<xdp_desc> receive;
  ProducerRing<xdp_desc> transmit;
  // ProducerRing::taken as it was counted last.
  uint32_t counted = 0;
};

class XdpPool {
 public:
  explicit XdpPool(const XdpPoolOptions& options);
  XdpPool(const XdpPool&) = delete;
  XdpPool& operator=(const XdpPool&) = delete;

  // The pool in the registry of this process, and what the registry knows it by.
  static uint32_t Register(std::shared_ptr<XdpPool> pool);
  static void Unregister(uint32_t id);
  static std::shared_ptr<XdpPool> Find(uint32_t id);

  const XdpPoolOptions& options() const { return options_; }
  bool zero_copy() const { return zero_copy_; }
  int memory_fd() const { return memory_fd_.get(); }
  size_t memory_bytes() const { return memory_bytes_; }
  uint32_t frame_count() const { return options_.queues * options_.frames_per_queue; }
  // Where a worker's free lists begin, and the words of each: a count, and then offsets.
  size_t FreeOffset(uint32_t worker) const;
  uint32_t free_words() const { return free_words_; }

  XdpSocket& Socket(uint32_t queue, uint32_t worker) {
    return *sockets_[static_cast<size_t>(queue) * options_.workers + worker];
  }
  uint32_t HomeOf(uint32_t frame) const { return frame / options_.frames_per_queue; }

  // A worker may be taken once at a time: false if it is.
  bool TakeWorker(uint32_t worker);
  void LeaveWorker(uint32_t worker);

  // 1 + the worker that owns a frame; 0: it is at home or the kernel's. Written by the owner alone:
  // with a frame, it is handed on by way of a ring or a lock.
  uint8_t& Owner(uint32_t frame) { return owners_[frame]; }

  bool HasCompletions(uint32_t queue) const { return queues_[queue]->completion.waiting() != 0; }
  // Adds frames that were sent by way of a queue to the lists of their homes.
  void TakeCompletions(uint32_t queue, std::vector<std::vector<uint32_t>>& homes);
  // Brings frames home, and takes some for a worker's free list, up to `list_capacity` offsets with
  // those that it has. `wake` is the worker's socket there.
  void BringHome(uint32_t queue, const std::vector<uint32_t>& frames, uint32_t* list, uint8_t owner,
                 const XdpSocket& wake);

 private:
  struct Queue {
    std::mutex lock;
    ProducerRing<uint64_t> fill;
    ConsumerRing<uint64_t> completion;
    std::vector<uint32_t> free;
  };

  std::unique_ptr<XdpSocket> OpenSocket(uint32_t queue, uint32_t worker);
  void Bind(const Fd& fd, uint32_t queue, uint32_t worker) const;

  XdpPoolOptions options_;
  size_t frames_bytes_;
  uint32_t free_words_;
  size_t memory_bytes_;
  // Frames that a queue keeps for what is sent, before it lets the kernel have more to receive
  // into.
  uint32_t kept_;
  bool zero_copy_ = true;
  Fd memory_fd_;
  std::unique_ptr<Mapping> memory_;
  std::vector<uint8_t> owners_;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::vector<std::unique_ptr<XdpSocket>> sockets_;
  std::mutex workers_lock_;
  std::vector<bool> workers_;
};

}  // namespace baton
