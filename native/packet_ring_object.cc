// The packet ring as JavaScript sees it: interface PacketRing of src/base/native.ts.
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
                           InstanceMethod<&PacketRingObject::SendLocal>("sendLocal"),
                           InstanceMethod<&PacketRingObject::Start>("start"),
                           InstanceMethod<&PacketRingObject::Stats>("stats"),
                           InstanceMethod<&PacketRingObject::Close>("close"),
                       });
  }

  explicit PacketRingObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  ~PacketRingObject() override {
    if (watch_) watch_->Close();
  }

  void Open(Napi::Env env, const PacketRingOptions& options) {
    ring_ = std::make_unique<PacketRing>(options);
    const std::shared_ptr<Mapping>& mapping = ring_->mapping();
    // The ArrayBuffer holds the mapping for itself.
    auto* hold = new std::shared_ptr<Mapping>(mapping);
    Napi::ArrayBuffer memory = Napi::ArrayBuffer::New(
        env, mapping->base(), mapping->bytes(),
        [](Napi::Env, void*, std::shared_ptr<Mapping>* held) { delete held; }, hold);
    memory_ = Napi::Persistent(memory);

    const TransmitRing& transmit = ring_->transmit();
    const auto slots_at =
        static_cast<double>(mapping->bytes() - static_cast<size_t>(transmit.slots()) * transmit.slot_bytes());
    Napi::Object self = Value();
    self.Set("memory", memory);
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

  // The descriptors in argument 0, and how many there is room for.
  static std::pair<Descriptor*, uint32_t> Descriptors(const Napi::CallbackInfo& info) {
    napi_typedarray_type type;
    size_t length = 0;
    void* data = nullptr;
    if (napi_get_typedarray_info(info.Env(), info[0], &type, &length, &data, nullptr, nullptr) != napi_ok ||
        type != napi_uint32_array) {
      ThrowArgument(info.Env(), "descriptors must be a Uint32Array");
    }
    constexpr size_t words = sizeof(Descriptor) / sizeof(uint32_t);
    return {static_cast<Descriptor*>(data), static_cast<uint32_t>(length / words)};
  }

  Napi::Value Receive(const Napi::CallbackInfo& info) {
    PacketRing& ring = Ring(info.Env());
    const auto [frames, capacity] = Descriptors(info);
    return Napi::Number::New(info.Env(), ring.Receive(frames, capacity));
  }

  Napi::Value Flush(const Napi::CallbackInfo& info) {
    PacketRing& ring = Ring(info.Env());
    const auto [frames, capacity] = Descriptors(info);
    const uint32_t count = NumberArgument(info, 1);
    if (count > capacity) ThrowArgument(info.Env(), "count exceeds the descriptors");
    return Napi::Number::New(info.Env(), ring.Flush(frames, count));
  }

  Napi::Value SendLocal(const Napi::CallbackInfo& info) {
    Ring(info.Env()).SendLocal(NumberArgument(info, 0), NumberArgument(info, 1), info[2].ToBoolean());
    return info.Env().Undefined();
  }

  Napi::Value Start(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    PacketRing& ring = Ring(env);
    if (!info[0].IsFunction()) ThrowArgument(env, "a function is expected");
    if (watch_) ThrowArgument(env, "the packet ring is started already");
    watch_ = Guard(env, [&] {
      return FdWatch::Start(env, ring.fd(), "baton:PacketRing", info[0].As<Napi::Function>(),
                            [this](bool error) { OnReady(error); });
    });
    Ref();  // not to be collected while the kernel may wake it
    return env.Undefined();
  }

  void OnReady(bool error) {
    if (error) ring_->ClearError();
    watch_->Call(0, nullptr);
  }

  Napi::Value Stats(const Napi::CallbackInfo& info) {
    const PacketRingStats stats = Ring(info.Env()).Stats();
    if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array ||
        info[0].As<Napi::TypedArray>().ElementLength() < 5) {
      ThrowArgument(info.Env(), "a Float64Array of 5 is expected");
    }
    double* const into = info[0].As<Napi::Float64Array>().Data();
    into[0] = static_cast<double>(stats.received);
    into[1] = static_cast<double>(stats.lost);
    into[2] = static_cast<double>(stats.sent);
    into[3] = static_cast<double>(stats.failed);
    into[4] = static_cast<double>(stats.outside);
    return info[0];
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    if (!ring_) return info.Env().Undefined();
    if (watch_) {
      watch_->Close();
      Unref();
    }
    // Should someone have moved the memory to another thread, it stays mapped until that lets go.
    Napi::ArrayBuffer memory = memory_.Value();
    if (!memory.IsDetached()) {
      memory.Detach();
      ring_->mapping()->Unmap();
    }
    memory_.Reset();
    ring_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<PacketRing> ring_;
  Napi::Reference<Napi::ArrayBuffer> memory_;
  std::shared_ptr<FdWatch> watch_;
};

uint32_t Option(const Napi::Object& options, const char* name) {
  const Napi::Value value = options.Get(name);
  if (!value.IsNumber()) ThrowArgument(options.Env(), std::string(name) + " must be a number");
  return value.As<Napi::Number>().Uint32Value();
}

}  // namespace

Napi::Function DefinePacketRing(Napi::Env env) {
  return PacketRingObject::Define(env);
}

Napi::Value OpenPacketRing(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject()) ThrowArgument(env, "options are expected");
  const auto from = info[0].As<Napi::Object>();
  PacketRingOptions options;
  options.interface_index = Option(from, "interfaceIndex");
  options.receive_blocks = Option(from, "receiveBlocks");
  options.receive_block_bytes = Option(from, "receiveBlockBytes");
  options.retire_ms = Option(from, "retireMs");
  options.transmit_slots = Option(from, "transmitSlots");
  options.transmit_slot_bytes = Option(from, "transmitSlotBytes");
  options.inject_mark = Option(from, "injectMark");
  options.filter_program_fd = static_cast<int>(Option(from, "filterProgramFd"));
  Napi::Object object = env.GetInstanceData<AddonData>()->packet_ring.New({});
  Guard(env, [&] { PacketRingObject::Unwrap(object)->Open(env, options); });
  return object;
}

}  // namespace baton
