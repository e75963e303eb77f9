#include "xdp_ring.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "packet_socket.h"
#include "tcp_checksum.h"

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

namespace baton {

XdpRing::XdpRing(std::shared_ptr<XdpPool> pool, uint32_t worker)
    : pool_(std::move(pool)), worker_(worker), owner_(static_cast<uint8_t>(worker + 1)) {
  const uint32_t queues = pool_->options().queues;
  mapping_ = std::make_shared<Mapping>(pool_->memory_fd(), pool_->memory_bytes());
  poll_fd_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!poll_fd_.valid()) ThrowSystem("epoll_create1");
  for (uint32_t queue = 0; queue < queues; queue++) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(poll_fd_.get(), EPOLL_CTL_ADD, Socket(queue).fd.get(), &event) != 0)
      ThrowSystem("epoll_ctl");
    // Frames that an earlier ring sent do not count here.
    Socket(queue).counted = Socket(queue).transmit.taken();
  }
  homes_.resize(queues);
  listed_.resize(queues);
  // This must be the last step that may fail.
  if (!pool_->TakeWorker(worker))
    throw SystemError{EBUSY, "openXdpRing",
                      "worker " + std::to_string(worker) + " has a ring already"};
  for (uint32_t queue = 0; queue < queues; queue++) FreeList(queue)[0] = 0;
  BringHome();
}

XdpRing::~XdpRing() {
  for (uint32_t frame = 0; frame < pool_->frame_count(); frame++) GiveBack(frame);
  for (uint32_t queue = 0; queue < homes_.size(); queue++) {
    pool_->BringHome(queue, homes_[queue], nullptr, 0, Socket(queue));
  }
  pool_->LeaveWorker(worker_);
}

uint32_t* XdpRing::FreeList(uint32_t queue) const {
  return reinterpret_cast<uint32_t*>(mapping_->base() + free_offset()) +
         static_cast<size_t>(queue) * pool_->free_words();
}

// True if a frame of this length lies in one frame of the pool.
bool XdpRing::Inside(uint32_t offset, uint32_t length) const {
  const uint32_t frame_bytes = pool_->options().frame_bytes;
  return offset / frame_bytes < pool_->frame_count() && length >= ETH_HLEN &&
         length <= frame_bytes - offset % frame_bytes;
}

uint32_t XdpRing::Receive(Descriptor* frames, uint32_t capacity) {
  const uint32_t queues = pool_->options().queues;
  const uint32_t frame_bytes = pool_->options().frame_bytes;
  uint32_t count = 0;
  for (uint32_t i = 0; i < queues && count < capacity; i++) {
    const uint32_t queue = (turn_ + i) % queues;
    ConsumerRing<xdp_desc>& ring = Socket(queue).receive;
    const uint32_t take = std::min(ring.waiting(), capacity - count);
    for (uint32_t left = take; left != 0; left--) {
      const xdp_desc desc = ring.Take();
      const auto offset = static_cast<uint32_t>(desc.addr);
      const uint32_t frame = offset / frame_bytes;
      if (!Inside(offset, desc.len)) continue;
      pool_->Owner(frame) = owner_;
      received_.push_back(frame);
      const bool unfinished = IsChecksumUnfinished(mapping_->base() + offset, desc.len);
      frames[count++] = {offset, desc.len, unfinished ? kChecksumPartial : 0U, queue};
    }
    if (take != 0) ring.Publish();
  }
  turn_ = (turn_ + 1) % queues;
  stats_.received += count;
  return count;
}

// False when the transmit ring is full.
bool XdpRing::Send(const Descriptor& descriptor) {
  const uint32_t frame = descriptor.offset / pool_->options().frame_bytes;
  if (!Inside(descriptor.offset, descriptor.length) || !IsOurs(frame)) {
    stats_.failed++;
    return true;
  }
  if (down_) {
    received_.push_back(frame);
    stats_.failed++;
    return true;
  }
  const uint32_t queue = pool_->HomeOf(frame) % pool_->options().transmit_queues;
  ProducerRing<xdp_desc>& ring = Socket(queue).transmit;
  if (ring.full()) return false;
  if ((descriptor.flags & kChecksumPartial) != 0) {
    FinishChecksum(mapping_->base() + descriptor.offset, descriptor.length);
  }
  ring.Put({descriptor.offset, descriptor.length, 0});
  pool_->Owner(frame) = 0;
  return true;
}

// Counts the frames that the kernel has taken since the last call.
void XdpRing::Count(XdpSocket& socket) {
  const uint32_t taken = socket.transmit.taken();
  stats_.sent += taken - socket.counted;
  socket.counted = taken;
}

void XdpRing::Kick(XdpSocket& socket) {
  while (socket.transmit.waiting() != 0 &&
         (!pool_->zero_copy() || socket.transmit.needs_wakeup())) {
    const uint32_t before = socket.transmit.taken();
    const ssize_t result = ::sendto(socket.fd.get(), nullptr, 0, MSG_DONTWAIT, nullptr, 0);
    const int error = result < 0 ? errno : 0;
    const bool moved = socket.transmit.taken() != before;
    down_ = error == ENETDOWN || error == ENXIO || error == ENODEV;
    // The device dropped the last frame that the kernel took, and the kernel stopped there.
    if (error == EBUSY && moved && !pool_->zero_copy()) {
      stats_.failed++;
      stats_.sent--;
    }
    // EAGAIN: one call has sent its maximum; or the device is busy, and nothing was sent.
    if (!moved || pool_->zero_copy()) break;
  }
  Count(socket);
}

void XdpRing::GiveBack(uint32_t frame) {
  if (!IsOurs(frame)) return;
  pool_->Owner(frame) = 0;
  homes_[pool_->HomeOf(frame)].push_back(frame);
}

void XdpRing::BringHome() {
  const uint32_t few = (pool_->free_words() - 1) / 2;
  for (uint32_t queue = 0; queue < homes_.size(); queue++) {
    if (pool_->HasCompletions(queue)) pool_->TakeCompletions(queue, homes_);
  }
  for (uint32_t queue = 0; queue < homes_.size(); queue++) {
    uint32_t* const list = FreeList(queue);
    // JavaScript also writes the free list, so its count is not trusted.
    list[0] = std::min(list[0], listed_[queue]);
    if (!homes_[queue].empty() || list[0] < few) {
      pool_->BringHome(queue, homes_[queue], list, owner_, Socket(queue));
      homes_[queue].clear();
    }
    listed_[queue] = list[0];
  }
}

uint32_t XdpRing::Flush(const Descriptor* frames, uint32_t count) {
  const uint32_t transmit_queues = pool_->options().transmit_queues;
  if (down_) {
    const ssize_t result = ::sendto(Socket(0).fd.get(), nullptr, 0, MSG_DONTWAIT, nullptr, 0);
    down_ = result < 0 && (errno == ENETDOWN || errno == ENXIO || errno == ENODEV);
  }
  uint32_t dropped = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (Send(frames[i])) continue;
    // Sending the waiting frames may make room.
    XdpSocket& socket =
        Socket(pool_->HomeOf(frames[i].offset / pool_->options().frame_bytes) % transmit_queues);
    socket.transmit.Publish();
    Kick(socket);
    if (Send(frames[i])) continue;
    received_.push_back(frames[i].offset / pool_->options().frame_bytes);
    dropped++;
  }
  for (uint32_t queue = 0; queue < transmit_queues; queue++) {
    XdpSocket& socket = Socket(queue);
    if (socket.transmit.waiting() == 0) continue;
    socket.transmit.Publish();
    Kick(socket);
  }
  for (const uint32_t frame : received_) GiveBack(frame);
  received_.clear();
  BringHome();
  return dropped;
}

RingStats XdpRing::Stats() {
  RingStats totals = stats_;
  for (uint32_t queue = 0; queue < homes_.size(); queue++) {
    XdpSocket& socket = Socket(queue);
    Count(socket);
    xdp_statistics kernel{};
    socklen_t length = sizeof kernel;
    if (::getsockopt(socket.fd.get(), SOL_XDP, XDP_STATISTICS, &kernel, &length) != 0) continue;
    totals.lost += kernel.rx_dropped + kernel.rx_ring_full;
    // In copy mode, each of these is also a frame of rx_dropped. In zero-copy mode, the driver does
    // not report such frames.
    totals.starved += kernel.rx_fill_ring_empty_descs;
  }
  totals.sent = stats_.sent;
  return totals;
}

}  // namespace baton
