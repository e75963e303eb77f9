// The transmit half of the packet ring.
//
// The kernel visits the slots in order. It stops at the first slot without SEND_REQUEST, and at a
// frame that it refuses. So there must never be a hole before a waiting frame:
//
//     slots    . . S S R R R . . .        . free   S being sent   R requested
//                      ^     ^
//                    tail_  head_         the kernel's cursor is at tail_
//
// To remove a refused frame, the frames behind it move by one slot.
#pragma once

#include <linux/if_packet.h>

#include <cstddef>
#include <cstdint>

namespace baton {

// struct virtio_net_hdr, which linux/virtio_net.h does not define for C++. PACKET_VNET_HDR puts it
// before each frame, in host byte order.
struct VirtioHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;
};
constexpr uint8_t kVirtioNeedsChecksum = 1;  // VIRTIO_NET_HDR_F_NEEDS_CSUM
constexpr uint8_t kVirtioNotSegmented = 0;   // VIRTIO_NET_HDR_GSO_NONE
constexpr uint32_t kVirtioBytes = sizeof(VirtioHeader);
static_assert(kVirtioBytes == 10, "the kernel's size");

// Offset of the virtio header in a slot: TPACKET3_HDRLEN without the address.
constexpr uint32_t kSlotHeaderBytes = TPACKET3_HDRLEN - sizeof(sockaddr_ll);

class TransmitRing {
 public:
  // `base` is the first slot in memory, and `fd` the socket of the ring.
  TransmitRing(int fd, uint8_t* base, uint32_t slots, uint32_t slot_bytes);

  // The longest frame that fits a slot, in bytes.
  uint32_t room() const { return slot_bytes_ - kSlotHeaderBytes - kVirtioBytes; }
  uint32_t slots() const { return slots_; }
  uint32_t slot_bytes() const { return slot_bytes_; }
  // The slot for the next frame.
  uint32_t next() const { return static_cast<uint32_t>(head_ % slots_); }

  // Puts a frame into the next slot. `frame` may lie in that slot already. `with_virtio`: its
  // virtio header precedes the frame. Without this header the frame is sent unchanged.
  void Put(const uint8_t* frame, uint32_t length, bool with_virtio);
  // Asks the kernel to send the requested frames.
  void Kick();

  uint64_t sent() const { return sent_; }
  uint64_t failed() const { return failed_; }

 private:
  tpacket3_hdr* Slot(uint64_t index) const;
  void Advance();
  void DropFirst();
  void DropAll();

  int fd_;
  uint8_t* base_;
  uint32_t slots_;
  uint32_t slot_bytes_;
  // Numbers of slots since the start, not indices: head_ - tail_ frames are requested.
  uint64_t head_ = 0;
  uint64_t tail_ = 0;
  // How often in a row the device did not accept the frame at tail_.
  uint32_t busy_ = 0;
  uint64_t sent_ = 0;
  uint64_t failed_ = 0;
};

}  // namespace baton
