// The functions and classes of the addon, which addon.cc registers, and the state of an
// environment.
//
// The addon is loaded in the main thread and in worker threads. All state that outlives a call
// belongs to one environment (AddonData) or to one object, except for the registry of XDP pools.
#pragma once

#include <napi.h>

#include <cstdint>

namespace baton {

// The classes of one environment.
struct AddonData {
  Napi::FunctionReference packet_ring;
  Napi::FunctionReference raw_socket;
  Napi::FunctionReference neighbour_events;
  Napi::FunctionReference bpf_object;
  Napi::FunctionReference map_handle;
  Napi::FunctionReference program_handle;
  Napi::FunctionReference record_ring;
  Napi::FunctionReference perf_buffers;
  Napi::FunctionReference xdp_pool;
  Napi::FunctionReference xdp_ring;
};

Napi::Function DefinePacketRing(Napi::Env env);
Napi::Function DefineRawSocket(Napi::Env env);
Napi::Function DefineNeighbourEvents(Napi::Env env);
Napi::Function DefineBpfObject(Napi::Env env);
Napi::Function DefineMapHandle(Napi::Env env);
Napi::Function DefineProgramHandle(Napi::Env env);
Napi::Function DefineRecordRing(Napi::Env env);
Napi::Function DefinePerfBuffers(Napi::Env env);
Napi::Function DefineXdpPool(Napi::Env env);
Napi::Function DefineXdpRing(Napi::Env env);

Napi::Value OpenPacketRing(const Napi::CallbackInfo& info);
Napi::Value OpenRawSocket(const Napi::CallbackInfo& info);
Napi::Value LoadBpf(const Napi::CallbackInfo& info);
Napi::Value KernelHasFunction(const Napi::CallbackInfo& info);
Napi::Value InterfaceInfo(const Napi::CallbackInfo& info);
Napi::Value Neighbours(const Napi::CallbackInfo& info);
Napi::Value ResolveNeighbour(const Napi::CallbackInfo& info);
Napi::Value ForgetNeighbour(const Napi::CallbackInfo& info);
Napi::Value OpenNeighbourEvents(const Napi::CallbackInfo& info);
Napi::Value Ipv4Addresses(const Napi::CallbackInfo& info);
Napi::Value TcFilters(const Napi::CallbackInfo& info);
Napi::Value DetachTc(const Napi::CallbackInfo& info);
Napi::Value RemoveClsactIfEmpty(const Napi::CallbackInfo& info);
Napi::Value AttachXdp(const Napi::CallbackInfo& info);
Napi::Value DetachXdp(const Napi::CallbackInfo& info);
Napi::Value XdpProgram(const Napi::CallbackInfo& info);
Napi::Value ProgramMaps(const Napi::CallbackInfo& info);
Napi::Value OpenMap(const Napi::CallbackInfo& info);
Napi::Value OpenProgram(const Napi::CallbackInfo& info);
Napi::Value ReceiveQueues(const Napi::CallbackInfo& info);
Napi::Value TransmitQueues(const Napi::CallbackInfo& info);
Napi::Value InterfaceDriver(const Napi::CallbackInfo& info);
Napi::Value FillRings(const Napi::CallbackInfo& info);
Napi::Value OpenRecordRing(const Napi::CallbackInfo& info);
Napi::Value OpenPerfBuffers(const Napi::CallbackInfo& info);
Napi::Value CreateXdpPool(const Napi::CallbackInfo& info);
Napi::Value OpenXdpRing(const Napi::CallbackInfo& info);
Napi::Value PeerRunsXdp(const Napi::CallbackInfo& info);
Napi::Value ScheduleInBatches(const Napi::CallbackInfo& info);
Napi::Value BeginPrompt(const Napi::CallbackInfo& info);
Napi::Value EndPrompt(const Napi::CallbackInfo& info);

// The Uint8Array in argument `index`; throws if it is something else.
inline Napi::Uint8Array BytesArgument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsTypedArray() ||
      info[index].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(info.Env(), "a Uint8Array is expected");
  }
  return info[index].As<Napi::Uint8Array>();
}

// The number in argument `index` as 32 bits; throws if it is something else.
inline uint32_t NumberArgument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsNumber()) throw Napi::TypeError::New(info.Env(), "a number is expected");
  return info[index].As<Napi::Number>().Uint32Value();
}

// The string in argument `index`; throws if it is something else.
inline std::string StringArgument(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsString()) throw Napi::TypeError::New(info.Env(), "a string is expected");
  return info[index].As<Napi::String>().Utf8Value();
}

}  // namespace baton
