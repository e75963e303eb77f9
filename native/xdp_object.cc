// Interfaces XdpPool and XdpRing of src/host/native.ts.
#include <memory>
#include <utility>

#include "addon.h"
#include "descriptor.h"
#include "errors.h"
#include "fd_watch.h"
#include "xdp_pool.h"
#include "xdp_ring.h"

namespace baton {

namespace {

class XdpPoolObject : public Napi::ObjectWrap<XdpPoolObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "XdpPool", {InstanceMethod<&XdpPoolObject::Close>("close")});
  }

  explicit XdpPoolObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  ~XdpPoolObject() override {
    if (id_ != 0) XdpPool::Unregister(id_);
  }

  void Open(Napi::Env env, const XdpPoolOptions& options) {
    auto pool = std::make_shared<XdpPool>(options);
    Napi::Array queues = Napi::Array::New(env, options.queues);
    for (uint32_t queue = 0; queue < options.queues; queue++) {
      Napi::Array fds = Napi::Array::New(env, options.workers);
      for (uint32_t worker = 0; worker < options.workers; worker++) {
        fds.Set(worker, pool->Socket(queue, worker).fd.get());
      }
      queues.Set(queue, fds);
    }
    Napi::Object self = Value();
    self.Set("memoryBytes", static_cast<double>(pool->memory_bytes()));
    self.Set("zeroCopy", pool->zero_copy());
    self.Set("socketFds", queues);
    id_ = XdpPool::Register(std::move(pool));
    self.Set("id", id_);
  }

 private:
  Napi::Value Close(const Napi::CallbackInfo& info) {
    if (id_ != 0) XdpPool::Unregister(id_);
    id_ = 0;
    return info.Env().Undefined();
  }

  uint32_t id_ = 0;
};

class XdpRingObject : public Napi::ObjectWrap<XdpRingObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "XdpRing",
                       {
                           InstanceMethod<&XdpRingObject::Receive>("receive"),
                           InstanceMethod<&XdpRingObject::Flush>("flush"),
                           InstanceMethod<&XdpRingObject::Refill>("refill"),
                           InstanceMethod<&XdpRingObject::Start>("start"),
                           InstanceMethod<&XdpRingObject::Stats>("stats"),
                           InstanceMethod<&XdpRingObject::Close>("close"),
                       });
  }

  explicit XdpRingObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  void Open(Napi::Env env, uint32_t pool_id, uint32_t worker) {
    const std::shared_ptr<XdpPool> pool = XdpPool::Find(pool_id);
    if (!pool) throw SystemError{ENOENT, "openXdpRing", "the XDP pool is closed"};
    if (worker >= pool->options().workers)
      throw SystemError{EINVAL, "openXdpRing", "the pool has no worker " + std::to_string(worker)};
    ring_ = std::make_unique<XdpRing>(pool, worker);
    memory_ = MappedMemory(env, ring_->mapping(), ring_->mapping()->bytes());
    const XdpPoolOptions& options = pool->options();
    Napi::Object self = Value();
    self.Set("memory", memory_.Value());
    self.Set("queues", options.queues);
    self.Set("queueBytes", static_cast<double>(options.frames_per_queue) * options.frame_bytes);
    self.Set("frameBytes", options.frame_bytes);
    self.Set("freeOffset", static_cast<double>(ring_->free_offset()));
    self.Set("freeWords", pool->free_words());
  }

 private:
  XdpRing& Ring(Napi::Env env) {
    if (!ring_) throw Napi::Error::New(env, "the XDP ring is closed");
    return *ring_;
  }

  Napi::Value Receive(const Napi::CallbackInfo& info) {
    XdpRing& ring = Ring(info.Env());
    const auto [frames, capacity] = DescriptorsArgument(info);
    return Napi::Number::New(info.Env(), ring.Receive(frames, capacity));
  }

  Napi::Value Flush(const Napi::CallbackInfo& info) {
    XdpRing& ring = Ring(info.Env());
    const auto [frames, capacity] = DescriptorsArgument(info);
    const uint32_t count = NumberArgument(info, 1);
    if (count > capacity) ThrowArgument(info.Env(), "there are fewer descriptors than count");
    return Napi::Number::New(info.Env(), ring.Flush(frames, count));
  }

  Napi::Value Refill(const Napi::CallbackInfo& info) {
    Ring(info.Env()).Refill();
    return info.Env().Undefined();
  }

  Napi::Value Start(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    XdpRing& ring = Ring(env);
    watch_.Start(info, *this, ring.fd(), "baton:XdpRing", "the XDP ring",
                 [](FdWatch& watch, bool) { watch.Call(0, nullptr); });
    return env.Undefined();
  }

  Napi::Value Stats(const Napi::CallbackInfo& info) {
    return FillStats(info, Ring(info.Env()).Stats());
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    if (!ring_) return info.Env().Undefined();
    watch_.Close();
    ring_.reset();
    memory_.Close();
    return info.Env().Undefined();
  }

  std::unique_ptr<XdpRing> ring_;
  MappedMemory memory_;
  ObjectWatch watch_;
};

}  // namespace

Napi::Function DefineXdpPool(Napi::Env env) {
  return XdpPoolObject::Define(env);
}

Napi::Function DefineXdpRing(Napi::Env env) {
  return XdpRingObject::Define(env);
}

Napi::Value CreateXdpPool(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject()) ThrowArgument(env, "options are expected");
  const auto from = info[0].As<Napi::Object>();
  XdpPoolOptions options;
  options.interface_index = NumberOption(from, "interfaceIndex");
  options.queues = NumberOption(from, "queues");
  options.transmit_queues = from.Get("transmitQueues").IsUndefined()
                                ? options.queues
                                : NumberOption(from, "transmitQueues");
  options.workers = NumberOption(from, "workers");
  options.frames_per_queue = NumberOption(from, "framesPerQueue");
  options.frame_bytes = NumberOption(from, "frameBytes");
  options.zero_copy = from.Get("zeroCopy").ToBoolean();
  Napi::Object object = env.GetInstanceData<AddonData>()->xdp_pool.New({});
  Guard(env, [&] { XdpPoolObject::Unwrap(object)->Open(env, options); });
  return object;
}

Napi::Value OpenXdpRing(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject()) ThrowArgument(env, "options are expected");
  const auto from = info[0].As<Napi::Object>();
  const uint32_t pool = NumberOption(from, "pool");
  const uint32_t worker = NumberOption(from, "worker");
  Napi::Object object = env.GetInstanceData<AddonData>()->xdp_ring.New({});
  Guard(env, [&] { XdpRingObject::Unwrap(object)->Open(env, pool, worker); });
  return object;
}

}  // namespace baton
