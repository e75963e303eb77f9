// Registration: the names under which src/base/native.ts finds everything.
#include "addon.h"

#include <unistd.h>

#include "errors.h"

namespace baton {

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* data = new AddonData;
  data->packet_ring = Napi::Persistent(DefinePacketRing(env));
  data->raw_socket = Napi::Persistent(DefineRawSocket(env));
  data->bpf_object = Napi::Persistent(DefineBpfObject(env));
  env.SetInstanceData(data);

  const auto offer = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  offer("openPacketRing", OpenPacketRing);
  offer("openRawSocket", OpenRawSocket);
  offer("interfaceInfo", InterfaceInfo);
  offer("neighbours", Neighbours);
  offer("resolveNeighbour", ResolveNeighbour);
  offer("loadBpf", LoadBpf);
  offer("kernelHasFunction", KernelHasFunction);
  offer("detachTc", DetachTc);
  offer("removeClsactIfEmpty", RemoveClsactIfEmpty);
  return exports;
}

}  // namespace
}  // namespace baton

using baton::Init;
NODE_API_MODULE(baton, Init)
