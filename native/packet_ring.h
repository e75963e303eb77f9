// The packet ring of an interface: a TPACKET_V3 receive ring and a transmit ring in one mapping.
//
//     memory   | block 0 | block 1 | ... | slot 0 | slot 1 | ...
//                receive: the kernel fills   transmit: JavaScript or Flush() fills
//
// A virtio_net_hdr of ten bytes stands right before the MAC header of received frames and of frames
// in slots. In both directions, it says that a checksum is unfinished or that a frame must be cut
// into segments. A forwarded frame is copied with this header, so that the information is kept.
//
// This code does not depend on JavaScript; errors are SystemError.
#pragma once

#include <linux/if_packet.h>

#include <cstdint>
#include <memory>

#include "descriptor.h"
#include "errors.h"
#include "mapping.h"
#include "transmit_ring.h"

namespace baton {

struct PacketRingOptions {
  uint32_t interface_index = 0;
  uint32_t receive_blocks = 0;
  uint32_t receive_block_bytes = 0;
  uint32_t retire_ms = 0;
  uint32_t transmit_slots = 0;
  uint32_t transmit_slot_bytes = 0;
  int filter_program_fd = -1;
  // A fanout group: rings that share the frames of an interface, by the choice of this program. -1:
  // this ring gets all frames. Group -1 creates a new group.
  int fanout_program_fd = -1;
  int fanout_group = -1;
};

class PacketRing {
 public:
  explicit PacketRing(const PacketRingOptions& options);

  const std::shared_ptr<Mapping>& mapping() const { return mapping_; }
  const TransmitRing& transmit() const { return *transmit_; }
  int fd() const { return ring_fd_.get(); }
  // The number of the fanout group; -1: none.
  int fanout_group() const { return fanout_group_; }

  // Receives up to `capacity` frames from blocks that are ready. They stay valid until Flush().
  uint32_t Receive(Descriptor* frames, uint32_t capacity);
  // Sends frames, then returns finished blocks to the kernel. Returns the next transmit slot.
  uint32_t Flush(const Descriptor* frames, uint32_t count);
  // Sends a frame from the memory of another ring with the next Flush(), or at once if the frame
  // does not fit a slot, or has kQueued. `headed`: a virtio header precedes the frame. Without one,
  // a checksum with kChecksumPartial is finished here.
  void SendFrom(uint8_t* frame, uint32_t length, uint32_t flags, bool headed);
  RingStats Stats();
  // Clears the error of the socket, such as "the interface went down".
  void ClearError();

 private:
  tpacket_block_desc* Block(uint32_t index) const;
  void EnterBlock();
  void LeaveBlock();
  void ReleaseBlocks();
  void JoinFanout();
  bool Inside(uint32_t offset, uint32_t length) const;
  void SendOutside(uint8_t* frame, uint32_t length, const void* virtio);

  PacketRingOptions options_;
  size_t receive_bytes_;
  Fd ring_fd_;
  Fd outside_fd_;
  int fanout_group_ = -1;
  std::shared_ptr<Mapping> mapping_;
  std::unique_ptr<TransmitRing> transmit_;
  RingStats stats_;

  // Blocks are used in a circle. `release_` is the oldest block that the kernel has not got back.
  // `finished_` blocks from there on have been received completely. The next block has
  // `frames_left_` more frames, from `cursor_` on.
  uint32_t release_ = 0;
  uint32_t finished_ = 0;
  uint32_t frames_left_ = 0;
  uint8_t* cursor_ = nullptr;
};

}  // namespace baton
