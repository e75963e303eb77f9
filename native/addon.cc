// Registers the functions of the addon under the names that src/host/native.ts uses.
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

  const auto define = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  define("openPacketRing", OpenPacketRing);
  define("openRawSocket", OpenRawSocket);
  define("interfaceInfo", InterfaceInfo);
  define("neighbours", Neighbours);
  define("resolveNeighbour", ResolveNeighbour);
  define("forgetNeighbour", ForgetNeighbour);
  define("openNeighbourEvents", OpenNeighbourEvents);
  define("ipv4Addresses", Ipv4Addresses);
  define("tcFilters", TcFilters);
  define("loadBpf", LoadBpf);
  define("kernelHasFunction", KernelHasFunction);
  define("detachTc", DetachTc);
  define("removeClsactIfEmpty", RemoveClsactIfEmpty);
  define("attachXdp", AttachXdp);
  define("detachXdp", DetachXdp);
  define("xdpProgram", XdpProgram);
  define("programMaps", ProgramMaps);
  define("openMap", OpenMap);
  define("openProgram", OpenProgram);
  define("receiveQueues", ReceiveQueues);
  define("transmitQueues", TransmitQueues);
  define("interfaceDriver", InterfaceDriver);
  define("fillRings", FillRings);
  define("openRecordRing", OpenRecordRing);
  define("openPerfBuffers", OpenPerfBuffers);
  define("createXdpPool", CreateXdpPool);
  define("openXdpRing", OpenXdpRing);
  define("peerRunsXdp", PeerRunsXdp);
  define("scheduleInBatches", ScheduleInBatches);
  define("beginPrompt", BeginPrompt);
  define("endPrompt", EndPrompt);
  return exports;
}

}  // namespace
}  // namespace baton

using baton::Init;
NODE_API_MODULE(baton, Init)
