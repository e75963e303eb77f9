#include "packet_ring.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "packet_socket.h"
#include "tcp_checksum.h"

namespace baton {

namespace {

// The kernel requires this value, but uses it only for rings with slots. Our receive ring has
// blocks.
constexpr uint32_t kReceiveFrameUnit = 2048;

// The slots of the transmit ring are grouped in blocks of this size, so that the kernel needs no
// larger piece of contiguous memory.
constexpr uint32_t kTransmitBlockBytes = 65536;

constexpr uint32_t kEtherTypeOffset = 12;

// PACKET_FANOUT_FLAG_IGNORE_OUTGOING of Linux 6.2. On an older kernel the ring's filter drops
// outgoing frames.
constexpr uint32_t kFanoutIgnoreOutgoing = 0x4000;

uint32_t FlagsOf(const tpacket3_hdr* packet, const VirtioHeader& virtio) {
  uint32_t flags = 0;
  if ((virtio.flags & kVirtioNeedsChecksum) != 0) flags |= kChecksumPartial;
  if ((packet->tp_status & TP_STATUS_CSUM_VALID) != 0) flags |= kChecksumValid;
  if (virtio.gso_type != kVirtioNotSegmented) flags |= kSegmented;
  if (packet->tp_snaplen < packet->tp_len) flags |= kTruncated;
  return flags;
}

// True if the kernel has removed a VLAN tag from the frame. Such a frame belongs to another
// network, unless the tag only carried a priority.
bool IsVlan(const tpacket3_hdr* packet) {
  constexpr uint32_t kIdentifier = 0xfff;
  return (packet->tp_status & TP_STATUS_VLAN_VALID) != 0 &&
         (packet->hv1.tp_vlan_tci & kIdentifier) != 0;
}

// True if a promiscuous interface received a frame for another machine.
bool IsForOthers(const uint8_t* packet) {
  const auto* address =
      reinterpret_cast<const sockaddr_ll*>(packet + TPACKET_ALIGN(sizeof(tpacket3_hdr)));
  return address->sll_pkttype == PACKET_OTHERHOST;
}

}  // namespace

PacketRing::PacketRing(const PacketRingOptions& options)
    : options_(options),
      receive_bytes_(static_cast<size_t>(options.receive_blocks) * options.receive_block_bytes) {
  const uint64_t transmit_bytes =
      static_cast<uint64_t>(options.transmit_slots) * options.transmit_slot_bytes;
  const auto block_bytes = static_cast<uint32_t>(std::min<uint64_t>(
      transmit_bytes, std::max(kTransmitBlockBytes, options.transmit_slot_bytes)));
  // Offsets have 32 bits, and slots must follow each other without a gap.
  if (receive_bytes_ + transmit_bytes > UINT32_MAX || block_bytes == 0 ||
      transmit_bytes % block_bytes != 0 || block_bytes % options.transmit_slot_bytes != 0 ||
      options.receive_block_bytes < kReceiveFrameUnit ||
      options.transmit_slot_bytes <= kSlotHeaderBytes + kVirtioBytes + ETH_HLEN) {
    throw SystemError{EINVAL, "openPacketRing",
                      "the ring sizes are too small, too large, or do not fit the blocks"};
  }

  ring_fd_ = OpenPacketSocket();
  const int on = 1;
  SetOption(ring_fd_, SOL_PACKET, PACKET_VERSION, static_cast<int>(TPACKET_V3), "PACKET_VERSION");
  SetOption(ring_fd_, SOL_PACKET, PACKET_VNET_HDR, on, "PACKET_VNET_HDR");
  SetOption(ring_fd_, SOL_PACKET, PACKET_IGNORE_OUTGOING, on, "PACKET_IGNORE_OUTGOING");
  SetOption(ring_fd_, SOL_PACKET, PACKET_QDISC_BYPASS, on, "PACKET_QDISC_BYPASS");
  SetOption(ring_fd_, SOL_SOCKET, SO_SNDBUFFORCE, kSendBufferBytes, "SO_SNDBUFFORCE");

  tpacket_req3 receive{};
  receive.tp_block_size = options.receive_block_bytes;
  receive.tp_block_nr = options.receive_blocks;
  receive.tp_frame_size = kReceiveFrameUnit;
  receive.tp_frame_nr = options.receive_block_bytes / kReceiveFrameUnit * options.receive_blocks;
  receive.tp_retire_blk_tov = options.retire_ms;
  SetOption(ring_fd_, SOL_PACKET, PACKET_RX_RING, receive, "PACKET_RX_RING");

  tpacket_req3 transmit{};
  transmit.tp_block_size = block_bytes;
  transmit.tp_block_nr = static_cast<uint32_t>(transmit_bytes / block_bytes);
  transmit.tp_frame_size = options.transmit_slot_bytes;
  transmit.tp_frame_nr = options.transmit_slots;
  SetOption(ring_fd_, SOL_PACKET, PACKET_TX_RING, transmit, "PACKET_TX_RING");

  mapping_ = std::make_shared<Mapping>(ring_fd_.get(), receive_bytes_ + transmit_bytes);
  transmit_ = std::make_unique<TransmitRing>(ring_fd_.get(), mapping_->base() + receive_bytes_,
                                             options.transmit_slots, options.transmit_slot_bytes);

  // A socket with PACKET_QDISC_BYPASS drops frames that software must cut into segments, so these
  // frames go through the queueing discipline.
  outside_fd_ = OpenPacketSocket();
  SetOption(outside_fd_, SOL_PACKET, PACKET_VNET_HDR, on, "PACKET_VNET_HDR");
  SetOption(outside_fd_, SOL_SOCKET, SO_SNDBUFFORCE, kSendBufferBytes, "SO_SNDBUFFORCE");

  if (options.filter_program_fd >= 0) {
    SetOption(ring_fd_, SOL_SOCKET, SO_ATTACH_BPF, options.filter_program_fd, "SO_ATTACH_BPF");
  }
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(options.interface_index);
  if (::bind(ring_fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ThrowSystem("bind", "AF_PACKET");
  }
  if (options.fanout_program_fd >= 0) JoinFanout();
}

// The program of the group returns the number of a member. Members are numbered in the order in
// which they joined, and after the interface was down, in the order in which the sockets were
// created. Until the last member has joined, and while the interface comes up, a frame may go to
// another member.
void PacketRing::JoinFanout() {
  constexpr uint32_t kTypeShift = 16;
  const bool is_new = options_.fanout_group < 0;
  const uint32_t flags = kFanoutIgnoreOutgoing | (is_new ? PACKET_FANOUT_FLAG_UNIQUEID : 0);
  const uint32_t group = is_new ? 0 : static_cast<uint32_t>(options_.fanout_group);
  SetOption(ring_fd_, SOL_PACKET, PACKET_FANOUT, group | (PACKET_FANOUT_EBPF | flags) << kTypeShift,
            "PACKET_FANOUT");
  if (is_new) {
    SetOption(ring_fd_, SOL_PACKET, PACKET_FANOUT_DATA, options_.fanout_program_fd,
              "PACKET_FANOUT_DATA");
  }
  uint32_t joined = 0;
  socklen_t length = sizeof joined;
  if (::getsockopt(ring_fd_.get(), SOL_PACKET, PACKET_FANOUT, &joined, &length) != 0) {
    ThrowSystem("getsockopt", "PACKET_FANOUT");
  }
  fanout_group_ = static_cast<int>(joined & 0xffff);
}

tpacket_block_desc* PacketRing::Block(uint32_t index) const {
  return reinterpret_cast<tpacket_block_desc*>(
      mapping_->base() +
      static_cast<size_t>(index % options_.receive_blocks) * options_.receive_block_bytes);
}

void PacketRing::EnterBlock() {
  tpacket_block_desc* block = Block(release_ + finished_);
  frames_left_ = block->hdr.bh1.num_pkts;
  cursor_ = reinterpret_cast<uint8_t*>(block) + block->hdr.bh1.offset_to_first_pkt;
}

void PacketRing::LeaveBlock() {
  finished_++;
  cursor_ = nullptr;
}

uint32_t PacketRing::Receive(Descriptor* frames, uint32_t capacity) {
  uint8_t* const base = mapping_->base();
  uint32_t count = 0;
  while (count < capacity) {
    if (cursor_ == nullptr) {
      if (finished_ == options_.receive_blocks) break;
      const tpacket_block_desc* block = Block(release_ + finished_);
      const uint32_t status = __atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE);
      if ((status & TP_STATUS_USER) == 0) break;
      EnterBlock();
    }
    while (frames_left_ != 0 && count < capacity) {
      const auto* packet = reinterpret_cast<const tpacket3_hdr*>(cursor_);
      const uint8_t* frame = cursor_ + packet->tp_mac;
      if (IsVlan(packet)) {
        stats_.lost++;
      } else if (!IsForOthers(cursor_)) {
        VirtioHeader virtio;
        std::memcpy(&virtio, frame - kVirtioBytes, kVirtioBytes);
        frames[count++] = {static_cast<uint32_t>(frame - base), packet->tp_snaplen,
                           FlagsOf(packet, virtio), 0};
      }
      cursor_ += packet->tp_next_offset;
      frames_left_--;
    }
    if (frames_left_ == 0) LeaveBlock();
  }
  stats_.received += count;
  return count;
}

void PacketRing::ReleaseBlocks() {
  for (; finished_ != 0; finished_--) {
    __atomic_store_n(&Block(release_)->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    release_ = (release_ + 1) % options_.receive_blocks;
  }
}

// True if a frame and its virtio header lie in the mapping.
bool PacketRing::Inside(uint32_t offset, uint32_t length) const {
  return offset >= kVirtioBytes && length >= ETH_HLEN &&
         static_cast<uint64_t>(offset) + length <= mapping_->bytes();
}

uint32_t PacketRing::Flush(const Descriptor* frames, uint32_t count) {
  uint8_t* const base = mapping_->base();
  for (uint32_t i = 0; i < count; i++) {
    const Descriptor& frame = frames[i];
    uint8_t* const start = base + frame.offset;
    if (!Inside(frame.offset, frame.length)) {
      stats_.failed++;
    } else if (frame.slot != kOutsideRing) {
      transmit_->Put(start, frame.length, frame.offset < receive_bytes_);
    } else {
      SendOutside(start, frame.length, start - kVirtioBytes);
    }
  }
  transmit_->Kick();
  ReleaseBlocks();
  return transmit_->next();
}

// Sends a frame with sendmsg, after the frames in the slots.
void PacketRing::SendOutside(uint8_t* frame, uint32_t length, const void* virtio) {
  transmit_->Kick();
  uint16_t ether_type_be;
  std::memcpy(&ether_type_be, frame + kEtherTypeOffset, sizeof ether_type_be);
  iovec parts[2] = {{const_cast<void*>(virtio), kVirtioBytes}, {frame, length}};
  if (SendTo(outside_fd_, options_.interface_index, ether_type_be, parts, 2) == 0) {
    stats_.outside++;
  } else {
    stats_.failed++;
  }
}

void PacketRing::SendFrom(uint8_t* frame, uint32_t length, uint32_t flags, bool headed) {
  static const VirtioHeader kPlain{};
  if (!headed && (flags & kChecksumPartial) != 0) FinishChecksum(frame, length);
  if ((flags & (kSegmented | kQueued)) == 0 && length <= transmit_->room()) {
    transmit_->Put(frame, length, headed);
  } else {
    SendOutside(frame, length, headed ? static_cast<const void*>(frame - kVirtioBytes) : &kPlain);
  }
}

RingStats PacketRing::Stats() {
  // Reading the kernel's counters sets them to 0.
  tpacket_stats_v3 kernel{};
  socklen_t length = sizeof kernel;
  if (::getsockopt(ring_fd_.get(), SOL_PACKET, PACKET_STATISTICS, &kernel, &length) == 0) {
    stats_.lost += kernel.tp_drops;
  }
  RingStats totals = stats_;
  totals.sent += transmit_->sent() + stats_.outside;
  totals.failed += transmit_->failed();
  return totals;
}

void PacketRing::ClearError() {
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(ring_fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
}

}  // namespace baton
