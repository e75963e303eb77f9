// One interface's frames in one mapping: a TPACKET_V3 receive ring, then a transmit ring.
//
//     memory   | block 0 | block 1 | ... | slot 0 | slot 1 | ...
//                receive: the kernel fills   transmit: JavaScript or Flush() fills
//
// A received frame, and a frame in a slot, has a virtio_net_hdr of ten bytes right before its MAC
// header: there the kernel says, and is told, that a checksum is not finished or that a frame is to
// be cut into segments. A frame that is forwarded is copied together with it, so both survive.
//
// Nothing here knows JavaScript; failures are SystemError.
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
  uint32_t inject_mark = 0;
  int filter_program_fd = -1;
  // Rings that share the frames of an interface, each frame to the one that the program names; -1:
  // this ring has all frames. Group -1 makes a new one.
  int fanout_program_fd = -1;
  int fanout_group = -1;
};

class PacketRing {
 public:
  explicit PacketRing(const PacketRingOptions& options);

  const std::shared_ptr<Mapping>& mapping() const { return mapping_; }
  const TransmitRing& transmit() const { return *transmit_; }
  int fd() const { return ring_fd_.get(); }
  // The number of its fanout group; -1 without one.
  int fanout_group() const { return fanout_group_; }

  // Takes up to `capacity` frames from blocks that are ready. They stay valid until Flush().
  uint32_t Receive(Descriptor* frames, uint32_t capacity);
  // Sends, then gives finished blocks back to the kernel. Returns the next transmit slot.
  uint32_t Flush(const Descriptor* frames, uint32_t count);
  // Sends a frame that lies in the memory of another ring, at the next Flush(); or at once if it
  // does not fit a slot. `headed`: a virtio header precedes it. Without one, a checksum that is
  // kChecksumPartial is finished here.
  void SendFrom(uint8_t* frame, uint32_t length, uint32_t flags, bool headed);
  // Sends one frame with the inject mark by way of the egress hook; `received`: with its virtio
  // header.
  void SendLocal(uint32_t offset, uint32_t length, bool received);
  RingStats Stats();
  // Clears an error that the kernel left on the socket, such as "the interface went down".
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
  Fd local_fd_;
  int fanout_group_ = -1;
  std::shared_ptr<Mapping> mapping_;
  std::unique_ptr<TransmitRing> transmit_;
  RingStats stats_;

  // Blocks are used round and round: `release_` is the oldest that the kernel has not got back,
  // `finished_` of them from there on were received whole, and the next one is where frames are
  // taken from: `frames_left_` of it, from `cursor_` on.
  uint32_t release_ = 0;
  uint32_t finished_ = 0;
  uint32_t frames_left_ = 0;
  uint8_t* cursor_ = nullptr;
};

}  // namespace baton
