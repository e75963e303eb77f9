// The AF_XDP sockets of an interface and the frames that they share.
//
//     memory | queue 0: frame 0 | frame 1 | ... | queue 1: ... | free lists: worker 0 | ...
//
// All queues share one memory (UMEM), so that a frame can leave through another queue than the one
// it arrived on. Each queue has a fill and a completion ring. On each queue, each worker has a
// socket with a receive and a transmit ring. Each frame has a home: the queue in whose part of the
// memory it lies. It returns there after use:
//
//     fill ring -> kernel -> receive ring -> worker -> transmit ring -> kernel -> completion ring
//         ^                                     |  ^                                    |
//         +--------- home, under its lock <-----+  +---- free list <-- home <-----------+
//
// A worker is a thread, and owns its receive and transmit rings. Workers share the rings of a queue
// under the queue's lock. This code does not depend on JavaScript; errors are SystemError.
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
  // ProducerRing::taken at the last count.
  uint32_t counted = 0;
};

class XdpPool {
 public:
  explicit XdpPool(const XdpPoolOptions& options);
  XdpPool(const XdpPool&) = delete;
  XdpPool& operator=(const XdpPool&) = delete;

  // The registry of this process, which gives each pool an id.
  static uint32_t Register(std::shared_ptr<XdpPool> pool);
  static void Unregister(uint32_t id);
  static std::shared_ptr<XdpPool> Find(uint32_t id);

  const XdpPoolOptions& options() const { return options_; }
  bool zero_copy() const { return zero_copy_; }
  int memory_fd() const { return memory_fd_.get(); }
  size_t memory_bytes() const { return memory_bytes_; }
  uint32_t frame_count() const { return options_.queues * options_.frames_per_queue; }
  // Offset of a worker's free lists, and the words of one list: a count, and then offsets of
  // frames.
  size_t FreeOffset(uint32_t worker) const;
  uint32_t free_words() const { return free_words_; }

  XdpSocket& Socket(uint32_t queue, uint32_t worker) {
    return *sockets_[static_cast<size_t>(queue) * options_.workers + worker];
  }
  uint32_t HomeOf(uint32_t frame) const { return frame / options_.frames_per_queue; }

  // Reserves a worker for one ring. False if the worker has a ring.
  bool TakeWorker(uint32_t worker);
  void LeaveWorker(uint32_t worker);

  // 1 + the worker that owns a frame; 0: the frame is at home or with the kernel. Only the owner
  // writes this. A ring or a lock transfers it together with the frame.
  uint8_t& Owner(uint32_t frame) { return owners_[frame]; }

  bool HasCompletions(uint32_t queue) const { return queues_[queue]->completion.waiting() != 0; }
  // Adds the frames that a queue has sent to the lists of their homes.
  void TakeCompletions(uint32_t queue, std::vector<std::vector<uint32_t>>& homes);
  // Returns frames to their home queue, and fills a worker's free list up to free_words() - 1
  // offsets. `wake` is the worker's socket on that queue.
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
  // Frames that a queue keeps for sending before it gives more to the kernel for receiving.
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
