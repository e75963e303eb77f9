// Programs on the XDP hook of an interface: attachXdp, detachXdp and xdpProgram of
// src/host/native.ts.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>

#include <string>
#include <vector>

#include "addon.h"
#include "errors.h"
#include "libbpf_log.h"
#include "map.h"

namespace baton {

namespace {

uint32_t ModeArgument(const Napi::CallbackInfo& info, size_t index) {
  const std::string mode = StringArgument(info, index);
  if (mode == "native") return XDP_FLAGS_DRV_MODE;
  if (mode == "generic") return XDP_FLAGS_SKB_MODE;
  ThrowArgument(info.Env(), "the mode must be native or generic, not " + mode);
}

bool IsGiven(const Napi::Value& value) {
  return !value.IsUndefined();
}

// Id and mode of the program on an interface; id 0: none. Frames pass the hooks of card, driver and
// stack (generic) in this order.
struct Attached {
  uint32_t id;
  const char* mode;
};

Attached QueryInterface(int interface_index) {
  const LibbpfLog log;
  bpf_xdp_query_opts query{};
  query.sz = sizeof query;
  const int result = bpf_xdp_query(interface_index, 0, &query);
  if (result != 0) log.Throw(result, "bpf_xdp_query");
  if (query.hw_prog_id != 0) return {query.hw_prog_id, "hardware"};
  if (query.drv_prog_id != 0) return {query.drv_prog_id, "native"};
  return {query.skb_prog_id, "generic"};
}

struct Description {
  std::string name;
  std::vector<BpfMap> maps;
};

Description Describe(uint32_t id) {
  const Fd program(bpf_prog_get_fd_by_id(id));
  if (!program.valid()) ThrowSystem("bpf_prog_get_fd_by_id", std::to_string(id));
  bpf_prog_info info{};
  uint32_t length = sizeof info;
  const auto ask = [&] {
    if (bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0)
      ThrowSystem("bpf_obj_get_info_by_fd");
  };
  ask();
  std::vector<uint32_t> ids(info.nr_map_ids);
  info = {};
  info.nr_map_ids = static_cast<uint32_t>(ids.size());
  info.map_ids = reinterpret_cast<uint64_t>(ids.data());
  ask();
  Description description{info.name, {}};
  for (const uint32_t map_id : ids) {
    const Fd map(MapFdById(map_id));
    description.maps.push_back(DescribeMap(map.get()));
  }
  return description;
}

Napi::Array MapsOf(Napi::Env env, const Description& description) {
  Napi::Array maps = Napi::Array::New(env, description.maps.size());
  for (uint32_t i = 0; i < description.maps.size(); i++) {
    const BpfMap& from = description.maps[i];
    Napi::Object map = Napi::Object::New(env);
    map.Set("id", from.id);
    map.Set("name", from.name);
    map.Set("type", from.type);
    map.Set("keyBytes", from.key_bytes);
    map.Set("valueBytes", from.value_bytes);
    map.Set("maxEntries", from.max_entries);
    maps.Set(i, map);
  }
  return maps;
}

}  // namespace

Napi::Value ProgramMaps(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t id = NumberArgument(info, 0);
  return Guard(env, [&]() -> Napi::Value { return MapsOf(env, Describe(id)); });
}

Napi::Value AttachXdp(const Napi::CallbackInfo& info) {
  const auto interface_index = static_cast<int>(NumberArgument(info, 0));
  const auto program_fd = static_cast<int>(NumberArgument(info, 1));
  uint32_t flags = ModeArgument(info, 2);
  bpf_xdp_attach_opts options{};
  options.sz = sizeof options;
  if (IsGiven(info[3])) {
    options.old_prog_fd = static_cast<int>(NumberArgument(info, 3));
    flags |= XDP_FLAGS_REPLACE;
  } else {
    flags |= XDP_FLAGS_UPDATE_IF_NOEXIST;
  }
  Guard(info.Env(), [&] {
    const LibbpfLog log;
    const int result = bpf_xdp_attach(interface_index, program_fd, flags, &options);
    if (result != 0) log.Throw(result, "bpf_xdp_attach");
  });
  return info.Env().Undefined();
}

Napi::Value DetachXdp(const Napi::CallbackInfo& info) {
  const auto interface_index = static_cast<int>(NumberArgument(info, 0));
  const uint32_t mode = ModeArgument(info, 1);
  const bool expects = IsGiven(info[2]);
  const int expected_fd = expects ? static_cast<int>(NumberArgument(info, 2)) : -1;
  const bool detached = Guard(info.Env(), [&] {
    const LibbpfLog log;
    uint32_t id = 0;
    // Without a program, the kernel accepts a detach, and refuses it if a program is expected.
    const int found = bpf_xdp_query_id(interface_index, static_cast<int>(mode), &id);
    if (found != 0) log.Throw(found, "bpf_xdp_query_id");
    if (id == 0) return false;
    bpf_xdp_attach_opts options{};
    options.sz = sizeof options;
    if (expects) options.old_prog_fd = expected_fd;
    const int result =
        bpf_xdp_detach(interface_index, mode | (expects ? XDP_FLAGS_REPLACE : 0), &options);
    if (result == -EEXIST && expects) return false;
    if (result != 0) log.Throw(result, "bpf_xdp_detach");
    return true;
  });
  return Napi::Boolean::New(info.Env(), detached);
}

Napi::Value XdpProgram(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto interface_index = static_cast<int>(NumberArgument(info, 0));
  return Guard(env, [&]() -> Napi::Value {
    const Attached attached = QueryInterface(interface_index);
    if (attached.id == 0) return env.Undefined();
    Description description;
    try {
      description = Describe(attached.id);
    } catch (const SystemError& failure) {
      // The program was replaced or detached in between.
      if (failure.error == ENOENT && QueryInterface(interface_index).id != attached.id) {
        return XdpProgram(info);
      }
      throw;
    }
    Napi::Object result = Napi::Object::New(env);
    result.Set("id", attached.id);
    result.Set("name", description.name);
    result.Set("mode", attached.mode);
    result.Set("maps", MapsOf(env, description));
    return result;
  });
}

}  // namespace baton
