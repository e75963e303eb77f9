#include "transmit_ring.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace baton {

namespace {

// Malformed frames after which a kick drops all waiting frames. Removing one moves all frames
// behind it, so that without a bound a batch of such frames would cost its square.
constexpr uint32_t kRefusalsPerKick = 8;

// A frame is dropped if the device does not accept it in this many kicks in a row. A device with a
// full queue accepts it sooner. A frame that the device never accepts must not block the ring.
constexpr uint32_t kBusyKicks = 64;

// The kernel copies frames up to this size into its own buffer. It refers to the pages of larger
// frames, and must copy these later if the frame goes to another namespace of this machine.
constexpr uint32_t kCopyBytes = 2048;

uint32_t Status(const tpacket3_hdr* slot) {
  return __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);
}

void SetStatus(tpacket3_hdr* slot, uint32_t status) {
  __atomic_store_n(&slot->tp_status, status, __ATOMIC_RELEASE);
}

uint8_t* Data(tpacket3_hdr* slot) {
  return reinterpret_cast<uint8_t*>(slot) + kSlotHeaderBytes;
}

}  // namespace

TransmitRing::TransmitRing(int fd, uint8_t* base, uint32_t slots, uint32_t slot_bytes)
    : fd_(fd), base_(base), slots_(slots), slot_bytes_(slot_bytes) {
}

tpacket3_hdr* TransmitRing::Slot(uint64_t index) const {
  return reinterpret_cast<tpacket3_hdr*>(base_ + static_cast<size_t>(index % slots_) * slot_bytes_);
}

void TransmitRing::Put(const uint8_t* frame, uint32_t length, bool with_virtio) {
  tpacket3_hdr* slot = Slot(head_);
  if (length > room() || Status(slot) != TP_STATUS_AVAILABLE) {
    failed_++;
    return;
  }
  uint8_t* data = Data(slot);
  if (with_virtio) {
    std::memcpy(data, frame - kVirtioBytes, kVirtioBytes + length);
  } else {
    if (frame != data + kVirtioBytes) std::memmove(data + kVirtioBytes, frame, length);
    std::memset(data, 0, kVirtioBytes);
  }
  // The kernel copies hdr_len bytes. The field has no other meaning for an unsegmented frame.
  auto* virtio = reinterpret_cast<VirtioHeader*>(data);
  if (length <= kCopyBytes) virtio->hdr_len = static_cast<uint16_t>(length);
  slot->tp_next_offset = 0;  // the kernel refuses slots of unequal size
  slot->tp_len = kVirtioBytes + length;
  SetStatus(slot, TP_STATUS_SEND_REQUEST);
  head_++;
}

// Moves tail_ beyond the slots that the kernel has taken, whether sent or being sent.
void TransmitRing::Advance() {
  while (tail_ != head_) {
    const uint32_t status = Status(Slot(tail_));
    if ((status & (TP_STATUS_SEND_REQUEST | TP_STATUS_WRONG_FORMAT)) != 0) return;
    tail_++;
    sent_++;
    busy_ = 0;
  }
}

void TransmitRing::DropFirst() {
  for (uint64_t to = tail_; to + 1 != head_; to++) {
    tpacket3_hdr* from = Slot(to + 1);
    std::memcpy(Data(Slot(to)), Data(from), from->tp_len);
    Slot(to)->tp_len = from->tp_len;
    SetStatus(Slot(to), TP_STATUS_SEND_REQUEST);
  }
  SetStatus(Slot(head_ - 1), TP_STATUS_AVAILABLE);
  head_--;
  failed_++;
  busy_ = 0;
}

void TransmitRing::DropAll() {
  while (head_ != tail_) {
    SetStatus(Slot(head_ - 1), TP_STATUS_AVAILABLE);
    head_--;
    failed_++;
  }
  busy_ = 0;
}

void TransmitRing::Kick() {
  uint32_t refusals = 0;
  while (tail_ != head_) {
    const ssize_t result = ::sendto(fd_, nullptr, 0, MSG_DONTWAIT, nullptr, 0);
    const int error = result < 0 ? errno : 0;
    Advance();
    if (tail_ == head_) return;
    if ((Status(Slot(tail_)) & TP_STATUS_WRONG_FORMAT) != 0) {
      if (++refusals > kRefusalsPerKick) {
        DropAll();
      } else {
        DropFirst();
      }
      continue;
    }
    switch (error) {
      case 0:
      case EINTR:
      case EAGAIN:   // the send buffer is full: the next kick continues
      case ENOBUFS:  // the device's queue is full
        if (++busy_ > kBusyKicks) DropFirst();
        return;
      default:  // the interface is down or gone: late frames are useless
        DropAll();
        return;
    }
  }
}

}  // namespace baton
