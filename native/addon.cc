// Registration: the names under which src/host/native.ts finds everything.
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
  data->neighbour_events = Napi::Persistent(DefineNeighbourEvents(env));
  data->bpf_object = Napi::Persistent(DefineBpfObject(env));
  data->map_handle = Napi::Persistent(DefineMapHandle(env));
  data->program_handle = Napi::Persistent(DefineProgramHandle(env));
  data->record_ring = Napi::Persistent(DefineRecordRing(env));
  data->perf_buffers = Napi::Persistent(DefinePerfBuffers(env));
  data->xdp_pool = Napi::Persistent(DefineXdpPool(env));
  data->xdp_ring = Napi::Persistent(DefineXdpRing(env));
  env.SetInstanceData(data);

  const auto offer = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  offer("openPacketRing", OpenPacketRing);
  offer("openRawSocket", OpenRawSocket);
  offer("interfaceInfo", InterfaceInfo);
  offer("neighbours", Neighbours);
  offer("resolveNeighbour", ResolveNeighbour);
  offer("forgetNeighbour", ForgetNeighbour);
  offer("openNeighbourEvents", OpenNeighbourEvents);
  offer("ipv4Addresses", Ipv4Addresses);
  offer("tcFilters", TcFilters);
  offer("loadBpf", LoadBpf);
  offer("kernelHasFunction", KernelHasFunction);
  offer("detachTc", DetachTc);
  offer("removeClsactIfEmpty", RemoveClsactIfEmpty);
  offer("attachXdp", AttachXdp);
  offer("detachXdp", DetachXdp);
  offer("xdpProgram", XdpProgram);
  offer("openMap", OpenMap);
  offer("openProgram", OpenProgram);
  offer("receiveQueues", ReceiveQueues);
  offer("transmitQueues", TransmitQueues);
  offer("interfaceDriver", InterfaceDriver);
  offer("fillRings", FillRings);
  offer("openRecordRing", OpenRecordRing);
  offer("openPerfBuffers", OpenPerfBuffers);
  offer("createXdpPool", CreateXdpPool);
  offer("openXdpRing", OpenXdpRing);
  offer("peerRunsXdp", PeerRunsXdp);
  offer("scheduleInBatches", ScheduleInBatches);
  return exports;
}

}  // namespace
}  // namespace baton

using baton::Init;
NODE_API_MODULE(baton, Init)
