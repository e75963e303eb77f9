#include "xdp_pool.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>
#include <utility>

#include "bpf.h"
#include "packet_socket.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
// Linux 6.18: how many frames one call may send.
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

namespace baton {

namespace {

constexpr uint32_t kMostQueues = 64;
constexpr uint32_t kMostWorkers = 8;
constexpr uint32_t kFewestFrames = 64;

// Entries of the transmit ring of a socket: frames that wait for a busy device.
constexpr uint32_t kTransmitEntries = 2048;

// Most frames of a queue on a worker's free list, for frames that the worker writes.
constexpr uint32_t kMostFree = 512;

// The kernel releases a queue some time after its socket was closed or its process ended.
constexpr int kBindTries = 100;
constexpr useconds_t kBindPauseMicroseconds = 10'000;

std::mutex registry_lock;
std::map<uint32_t, std::shared_ptr<XdpPool>> registry;
uint32_t registered = 0;

uint32_t PowerOfTwo(uint32_t at_least) {
  uint32_t power = 1;
  while (power < at_least) power *= 2;
  return power;
}

// Entries of the receive ring of a socket: frames that wait for a busy worker. Most frames of a
// queue may wait for the same worker.
uint32_t ReceiveEntries(const XdpPoolOptions& options) {
  return PowerOfTwo(options.frames_per_queue / 2 + 1);
}

bool IsSane(const XdpPoolOptions& options) {
  return options.queues >= 1 && options.queues <= kMostQueues && options.workers >= 1 &&
         options.workers <= kMostWorkers && options.transmit_queues >= 1 &&
         options.transmit_queues <= options.queues &&
         (options.frame_bytes == 2048 || options.frame_bytes == 4096) &&
         options.frames_per_queue >= kFewestFrames && options.frames_per_queue % 2 == 0 &&
         // Offsets have 32 bits.
         static_cast<uint64_t>(options.queues) * options.frames_per_queue * options.frame_bytes <
             UINT32_MAX - (64 << 20);
}

}  // namespace

uint32_t XdpPool::Register(std::shared_ptr<XdpPool> pool) {
  const std::lock_guard<std::mutex> guard(registry_lock);
  registry.emplace(++registered, std::move(pool));
  return registered;
}

void XdpPool::Unregister(uint32_t id) {
  std::shared_ptr<XdpPool> last;
  const std::lock_guard<std::mutex> guard(registry_lock);
  const auto found = registry.find(id);
  if (found == registry.end()) return;
  last = std::move(found->second);
  registry.erase(found);
}

std::shared_ptr<XdpPool> XdpPool::Find(uint32_t id) {
  const std::lock_guard<std::mutex> guard(registry_lock);
  const auto found = registry.find(id);
  return found == registry.end() ? nullptr : found->second;
}

XdpPool::XdpPool(const XdpPoolOptions& options) : options_(options) {
  if (!IsSane(options))
    throw SystemError{EINVAL, "createXdpPool",
                      "a number of queues, workers or frames is out of range"};
  RaiseLockedMemory();
  frames_bytes_ = static_cast<size_t>(frame_count()) * options.frame_bytes;
  kept_ = options.frames_per_queue / 4;
  free_words_ = 1 + std::min(kMostFree, kept_ / options.workers);
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  memory_bytes_ = (FreeOffset(options.workers) + page - 1) / page * page;
  memory_fd_ = Fd(::memfd_create("baton-frames", MFD_CLOEXEC));
  if (!memory_fd_.valid()) ThrowSystem("memfd_create");
  if (::ftruncate(memory_fd_.get(), static_cast<off_t>(memory_bytes_)) != 0)
    ThrowSystem("ftruncate");
  memory_ = std::make_unique<Mapping>(memory_fd_.get(), memory_bytes_);
  owners_.resize(frame_count());
  workers_.resize(options.workers);
  for (uint32_t queue = 0; queue < options.queues; queue++) {
    queues_.push_back(std::make_unique<Queue>());
    Queue& home = *queues_.back();
    home.free.reserve(options.frames_per_queue);
    for (uint32_t worker = 0; worker < options.workers; worker++) {
      sockets_.push_back(OpenSocket(queue, worker));
    }
    std::vector<uint32_t> frames(options.frames_per_queue);
    for (uint32_t i = 0; i < frames.size(); i++) frames[i] = queue * options.frames_per_queue + i;
    BringHome(queue, frames, nullptr, 0, Socket(queue, 0));
  }
}

size_t XdpPool::FreeOffset(uint32_t worker) const {
  return frames_bytes_ +
         static_cast<size_t>(worker) * options_.queues * free_words_ * sizeof(uint32_t);
}

// The first socket registers the memory. The first socket of each queue creates that queue's rings.
std::unique_ptr<XdpSocket> XdpPool::OpenSocket(uint32_t queue, uint32_t worker) {
  auto socket = std::make_unique<XdpSocket>();
  socket->fd = Fd(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  const Fd& fd = socket->fd;
  if (!fd.valid()) ThrowSystem("socket", "AF_XDP");
  SetOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, kSendBufferBytes, "SO_SNDBUFFORCE");
  if (queue == 0 && worker == 0) {
    xdp_umem_reg memory{};
    memory.addr = reinterpret_cast<uint64_t>(memory_->base());
    memory.len = frames_bytes_;
    memory.chunk_size = options_.frame_bytes;
    SetOption(fd, SOL_XDP, XDP_UMEM_REG, memory, "XDP_UMEM_REG");
  }
  // Neither ring is ever full: each has room for all frames of the queue.
  const uint32_t entries = PowerOfTwo(options_.frames_per_queue);
  if (worker == 0) {
    SetOption(fd, SOL_XDP, XDP_UMEM_FILL_RING, entries, "XDP_UMEM_FILL_RING");
    SetOption(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, entries, "XDP_UMEM_COMPLETION_RING");
  }
  SetOption(fd, SOL_XDP, XDP_RX_RING, ReceiveEntries(options_), "XDP_RX_RING");
  SetOption(fd, SOL_XDP, XDP_TX_RING, kTransmitEntries, "XDP_TX_RING");
  // Older kernels ignore this: one call sends 32 frames, so sending takes more calls.
  ::setsockopt(fd.get(), SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &kTransmitEntries,
               sizeof kTransmitEntries);

  xdp_mmap_offsets at{};
  socklen_t length = sizeof at;
  if (::getsockopt(fd.get(), SOL_XDP, XDP_MMAP_OFFSETS, &at, &length) != 0 || length != sizeof at) {
    ThrowSystem("getsockopt", "XDP_MMAP_OFFSETS");
  }
  socket->receive = {fd.get(), XDP_PGOFF_RX_RING, at.rx, ReceiveEntries(options_)};
  socket->transmit = {fd.get(), XDP_PGOFF_TX_RING, at.tx, kTransmitEntries};
  if (worker == 0) {
    queues_[queue]->fill = {fd.get(), XDP_UMEM_PGOFF_FILL_RING, at.fr, entries};
    queues_[queue]->completion = {fd.get(), XDP_UMEM_PGOFF_COMPLETION_RING, at.cr, entries};
  }
  Bind(fd, queue, worker);

  xdp_options got{};
  length = sizeof got;
  if (::getsockopt(fd.get(), SOL_XDP, XDP_OPTIONS, &got, &length) != 0)
    ThrowSystem("getsockopt", "XDP_OPTIONS");
  zero_copy_ = zero_copy_ && (got.flags & XDP_OPTIONS_ZEROCOPY) != 0;
  return socket;
}

void XdpPool::Bind(const Fd& fd, uint32_t queue, uint32_t worker) const {
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_ifindex = options_.interface_index;
  address.sxdp_queue_id = queue;
  if (queue == 0 && worker == 0) {
    address.sxdp_flags = XDP_USE_NEED_WAKEUP;
    // Without XDP_COPY the kernel copies only if the driver has no zero-copy mode.
    if (!options_.zero_copy) address.sxdp_flags |= XDP_COPY;
  } else {
    // A socket on the same queue as the named one shares its fill and completion rings.
    const size_t with = worker == 0 ? 0 : static_cast<size_t>(queue) * options_.workers;
    address.sxdp_flags = XDP_SHARED_UMEM;
    address.sxdp_shared_umem_fd = static_cast<uint32_t>(sockets_[with]->fd.get());
  }
  for (int tries = 1;; tries++) {
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return;
    if (errno != EBUSY || tries == kBindTries)
      ThrowSystem("bind", "AF_XDP, queue " + std::to_string(queue));
    ::usleep(kBindPauseMicroseconds);
  }
}

bool XdpPool::TakeWorker(uint32_t worker) {
  const std::lock_guard<std::mutex> guard(workers_lock_);
  if (workers_[worker]) return false;
  workers_[worker] = true;
  return true;
}

void XdpPool::LeaveWorker(uint32_t worker) {
  const std::lock_guard<std::mutex> guard(workers_lock_);
  workers_[worker] = false;
}

void XdpPool::TakeCompletions(uint32_t queue, std::vector<std::vector<uint32_t>>& homes) {
  Queue& from = *queues_[queue];
  const std::lock_guard<std::mutex> guard(from.lock);
  for (uint32_t left = from.completion.waiting(); left != 0; left--) {
    const uint64_t frame = from.completion.Take() / options_.frame_bytes;
    if (frame < frame_count())
      homes[HomeOf(static_cast<uint32_t>(frame))].push_back(static_cast<uint32_t>(frame));
  }
  from.completion.Publish();
}

void XdpPool::BringHome(uint32_t queue, const std::vector<uint32_t>& frames, uint32_t* list,
                        uint8_t owner, const XdpSocket& wake) {
  Queue& home = *queues_[queue];
  bool wakes = false;
  {
    const std::lock_guard<std::mutex> guard(home.lock);
    bool filled = false;
    for (const uint32_t frame : frames) {
      if (home.free.size() < kept_) {
        home.free.push_back(frame);
      } else {
        home.fill.Put(static_cast<uint64_t>(frame) * options_.frame_bytes);
        filled = true;
      }
    }
    if (filled) {
      home.fill.Publish();
      wakes = home.fill.needs_wakeup();
    }
    while (list != nullptr && list[0] + 1 < free_words_ && !home.free.empty()) {
      const uint32_t frame = home.free.back();
      home.free.pop_back();
      Owner(frame) = owner;
      list[++list[0]] = frame * options_.frame_bytes;
    }
  }
  if (wakes) ::recvfrom(wake.fd.get(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
}

}  // namespace baton
