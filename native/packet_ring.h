// One interface's frames in one mapping: a TPACKET_V3 receive ring, then a transmit ring.
//
//     memory   | block 0 | block 1 | ... | slot 0 | slot 1 | ...
//                receive: the kernel fills   transmit: JavaScript or Flush() fills
//
// A received frame, and a frame in a slot, has a virtio_net_hdr of ten bytes right before its MAC
// header: there the kernel says, and is told, that a checksum is not finished or that a frame is to be
// cut into segments. A frame that is forwarded is copied together with it, so both survive.
//
// Nothing here knows JavaScript; failures are SystemError.
#pragma once

#include <linux/if_packet.h>

#include <cstdint>
#include <memory>

#include "errors.h"
#include "transmit_ring.h"

namespace baton {

// Words of a frame descriptor (src/base/native.ts).
struct Descriptor {
  uint32_t offset;  // of the MAC header in the mapping
  uint32_t length;
  uint32_t flags;
  uint32_t slot;  // kOutsideRing, or anything else: the ring's next slot
};
static_assert(sizeof(Descriptor) == 4 * sizeof(uint32_t), "as in src/base/native.ts");

// Bits of Descriptor::flags (FrameFlags in src/datapath/datapath.ts).
enum FrameFlag : uint32_t {
  kChecksumPartial = 1,
  kChecksumValid = 2,
  kSegmented = 4,
  kTruncated = 8,
};

// Descriptor::slot of a frame that leaves by an ordinary send (OUTSIDE_RING in src/base/native.ts).
constexpr uint32_t kOutsideRing = 0xffffffff;

struct PacketRingOptions {
  uint32_t interface_index = 0;
  uint32_t receive_blocks = 0;
  uint32_t receive_block_bytes = 0;
  uint32_t retire_ms = 0;
  uint32_t transmit_slots = 0;
  uint32_t transmit_slot_bytes = 0;
  uint32_t inject_mark = 0;
  int filter_program_fd = -1;
};

struct PacketRingStats {
  uint64_t received = 0;
  uint64_t lost = 0;  // receive ring full, or of a VLAN
  uint64_t sent = 0;
  uint64_t failed = 0;
  uint64_t outside = 0;  // of those sent: not by way of the ring
};

// Pages shared with the kernel. They keep the socket alive even after its descriptor is closed. Unmapped
// when the last holder lets go, so that an ArrayBuffer over them can never outlive them; or earlier, by
// one that knows that the ArrayBuffer is detached.
class Mapping {
 public:
  Mapping(int fd, size_t bytes);
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();
  void Unmap();
  uint8_t* base() const { return base_; }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* base_;
  size_t bytes_;
};

class PacketRing {
 public:
  explicit PacketRing(const PacketRingOptions& options);

  const std::shared_ptr<Mapping>& mapping() const { return mapping_; }
  const TransmitRing& transmit() const { return *transmit_; }
  int fd() const { return ring_fd_.get(); }

  // Takes up to `capacity` frames from blocks that are ready. They stay valid until Flush().
  uint32_t Receive(Descriptor* frames, uint32_t capacity);
  // Sends, then gives finished blocks back to the kernel. Returns the next transmit slot.
  uint32_t Flush(const Descriptor* frames, uint32_t count);
  // Sends one frame with the inject mark by way of the egress hook; `received`: with its virtio header.
  void SendLocal(uint32_t offset, uint32_t length, bool received);
  PacketRingStats Stats();
  // Clears an error that the kernel left on the socket, such as "the interface went down".
  void ClearError();

 private:
  tpacket_block_desc* Block(uint32_t index) const;
  void EnterBlock();
  void LeaveBlock();
  void ReleaseBlocks();
  bool Inside(uint32_t offset, uint32_t length) const;

  PacketRingOptions options_;
  size_t receive_bytes_;
  Fd ring_fd_;
  Fd outside_fd_;
  Fd local_fd_;
  std::shared_ptr<Mapping> mapping_;
  std::unique_ptr<TransmitRing> transmit_;
  PacketRingStats stats_;

  // Blocks are used round and round: `release_` is the oldest that the kernel has not got back,
  // `finished_` of them from there on were received whole, and the next one is where frames are taken
  // from: `frames_left_` of it, from `cursor_` on.
  uint32_t release_ = 0;
  uint32_t finished_ = 0;
  uint32_t frames_left_ = 0;
  uint8_t* cursor_ = nullptr;
};

}  // namespace baton
