// Interface PacketRing of src/host/native.ts.
#include <linux/if_ether.h>

#include <cstddef>
#include <memory>

#include "addon.h"
#include "errors.h"
#include "fd_watch.h"
#include "packet_ring.h"

namespace baton {

namespace {

class PacketRingObject : public Napi::ObjectWrap<PacketRingObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "PacketRing",
                       {
                           InstanceMethod<&PacketRingObject::Receive>("receive"),
                           InstanceMethod<&PacketRingObject::Flush>("flush"),
                           InstanceMethod<&PacketRingObject::SendFrom>("sendFrom"),
                           InstanceMethod<&PacketRingObject::Start>("start"),
                           InstanceMethod<&PacketRingObject::Stats>("stats"),
                           InstanceMethod<&PacketRingObject::Close>("close"),
                       });
  }

  explicit PacketRingObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  void Open(Napi::Env env, const PacketRingOptions& options) {
    ring_ = std::make_unique<PacketRing>(options);
    const std::shared_ptr<Mapping>& mapping = ring_->mapping();
    memory_ = MappedMemory(env, mapping, mapping->bytes());

    const TransmitRing& transmit = ring_->transmit();
    const auto slots_at = static_cast<double>(
        mapping->bytes() - static_cast<size_t>(transmit.slots()) * transmit.slot_bytes());
    Napi::Object self = Value();
    self.Set("memory", memory_.Value());
    self.Set("fanoutGroup", ring_->fanout_group());
    self.Set("transmitStatus", slots_at + offsetof(tpacket3_hdr, tp_status));
    self.Set("transmitOffset", slots_at + kSlotHeaderBytes + kVirtioBytes);
    self.Set("transmitRoom", transmit.room());
    self.Set("transmitSlots", transmit.slots());
    self.Set("transmitSlotBytes", transmit.slot_bytes());
  }

 private:
  PacketRing& Ring(Napi::Env env) {
    if (!ring_) throw Napi::Error::New(env, "the packet ring is closed");
    return *ring_;
  }

  Napi::Value Receive(const Napi::CallbackInfo& info) {
    PacketRing& ring = Ring(info.Env());
    const auto [frames, capacity] = DescriptorsArgument(info);
    return Napi::Number::New(info.Env(), ring.Receive(frames, capacity));
  }

  Napi::Value Flush(const Napi::CallbackInfo& info) {
    PacketRing& ring = Ring(info.Env());
    const auto [frames, capacity] = DescriptorsArgument(info);
    const uint32_t count = NumberArgument(info, 1);
    if (count > capacity) ThrowArgument(info.Env(), "there are fewer descriptors than count");
    return Napi::Number::New(info.Env(), ring.Flush(frames, count));
  }

  Napi::Value SendFrom(const Napi::CallbackInfo& info) {
    PacketRing& ring = Ring(info.Env());
    void* memory = nullptr;
    size_t bytes = 0;
    if (napi_get_arraybuffer_info(info.Env(), info[0], &memory, &bytes) != napi_ok) {
      ThrowArgument(info.Env(), "an ArrayBuffer is expected");
    }
    const uint32_t offset = NumberArgument(info, 1);
    const uint32_t length = NumberArgument(info, 2);
    const bool headed = info[4].ToBoolean();
    if ((headed && offset < kVirtioBytes) || length < ETH_HLEN ||
        static_cast<uint64_t>(offset) + length > bytes) {
      ThrowArgument(info.Env(), "the frame is not in the memory");
    }
    ring.SendFrom(static_cast<uint8_t*>(memory) + offset, length, NumberArgument(info, 3), headed);
    return info.Env().Undefined();
  }

  Napi::Value Start(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    PacketRing& ring = Ring(env);
    watch_.Start(info, *this, ring.fd(), "baton:PacketRing", "the packet ring",
                 [this](FdWatch& watch, bool error) {
                   if (error) ring_->ClearError();
                   watch.Call(0, nullptr);
                 });
    return env.Undefined();
  }

  Napi::Value Stats(const Napi::CallbackInfo& info) {
    return FillStats(info, Ring(info.Env()).Stats());
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    if (!ring_) return info.Env().Undefined();
    watch_.Close();
    memory_.Close();
    ring_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<PacketRing> ring_;
  MappedMemory memory_;
  ObjectWatch watch_;
};

}  // namespace

Napi::Function DefinePacketRing(Napi::Env env) {
  return PacketRingObject::Define(env);
}

Napi::Value OpenPacketRing(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject()) ThrowArgument(env, "options are expected");
  const auto from = info[0].As<Napi::Object>();
  PacketRingOptions options;
  options.interface_index = NumberOption(from, "interfaceIndex");
  options.receive_blocks = NumberOption(from, "receiveBlocks");
  options.receive_block_bytes = NumberOption(from, "receiveBlockBytes");
  options.retire_ms = NumberOption(from, "retireMs");
  options.transmit_slots = NumberOption(from, "transmitSlots");
  options.transmit_slot_bytes = NumberOption(from, "transmitSlotBytes");
  options.filter_program_fd = static_cast<int>(NumberOption(from, "filterProgramFd"));
  const Napi::Value fanout = from.Get("fanout");
  if (fanout.IsObject()) {
    options.fanout_program_fd =
        static_cast<int>(NumberOption(fanout.As<Napi::Object>(), "programFd"));
    options.fanout_group = static_cast<int>(NumberOption(fanout.As<Napi::Object>(), "group"));
  }
  Napi::Object object = env.GetInstanceData<AddonData>()->packet_ring.New({});
  Guard(env, [&] { PacketRingObject::Unwrap(object)->Open(env, options); });
  return object;
}

}  // namespace baton
