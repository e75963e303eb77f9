// One worker's part of an XdpPool: receives and sends on the worker's sockets. This code does not
// depend on JavaScript; errors are SystemError.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "descriptor.h"
#include "errors.h"
#include "mapping.h"
#include "xdp_pool.h"

namespace baton {

class XdpRing {
 public:
  XdpRing(std::shared_ptr<XdpPool> pool, uint32_t worker);
  ~XdpRing();
  XdpRing(const XdpRing&) = delete;
  XdpRing& operator=(const XdpRing&) = delete;

  const XdpPool& pool() const { return *pool_; }
  // Each thread maps the memory itself: an address can belong to one ArrayBuffer only.
  const std::shared_ptr<Mapping>& mapping() const { return mapping_; }
  size_t free_offset() const { return pool_->FreeOffset(worker_); }
  // Readable when one of the sockets is readable.
  int fd() const { return poll_fd_.get(); }

  // Receives up to `capacity` frames. They stay valid until Flush().
  uint32_t Receive(Descriptor* frames, uint32_t capacity);
  // Sends frames, returns received frames that were not sent, and fills the free lists. Returns the
  // number of frames that were dropped because a transmit ring was full.
  uint32_t Flush(const Descriptor* frames, uint32_t count);
  // Fills the free lists with frames that have been sent.
  void Refill() { BringHome(); }
  RingStats Stats();

 private:
  XdpSocket& Socket(uint32_t queue) { return pool_->Socket(queue, worker_); }
  uint32_t* FreeList(uint32_t queue) const;
  bool Inside(uint32_t offset, uint32_t length) const;
  bool IsOurs(uint32_t frame) const { return pool_->Owner(frame) == owner_; }
  bool Send(const Descriptor& frame);
  void Kick(XdpSocket& socket);
  void Count(XdpSocket& socket);
  void GiveBack(uint32_t frame);
  void BringHome();

  std::shared_ptr<XdpPool> pool_;
  uint32_t worker_;
  uint8_t owner_;
  std::shared_ptr<Mapping> mapping_;
  Fd poll_fd_;
  // The queue that Receive reads first next time.
  uint32_t turn_ = 0;
  // Received frames, which the next Flush returns unless it sends them.
  std::vector<uint32_t> received_;
  // For each queue: frames on their way home, and the last length of its free list.
  std::vector<std::vector<uint32_t>> homes_;
  std::vector<uint32_t> listed_;
  // The interface is down: frames are dropped, because they would be late.
  bool down_ = false;
  RingStats stats_;
};

}  // namespace baton
