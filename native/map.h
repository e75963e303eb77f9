// BPF maps by descriptor: what BpfObject and MapHandle of src/host/native.ts have in common.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mapping.h"

namespace baton {

using Bytes = std::vector<uint8_t>;

struct BpfMap {
  int fd = -1;
  uint32_t id = 0;
  uint32_t type = 0;
  uint32_t key_bytes = 0;
  uint32_t value_bytes = 0;
  uint32_t max_entries = 0;
  std::string name;
};

// What the kernel tells of a map.
BpfMap DescribeMap(int fd);

// A map of the machine by its id: a descriptor that the caller closes.
int MapFdById(uint32_t id);

// Each takes its arguments from argument `first` on, and returns what the method of that name does.
Napi::Value MapUpdate(const Napi::CallbackInfo& info, const BpfMap& map, size_t first);
Napi::Value MapLookup(const Napi::CallbackInfo& info, const BpfMap& map, size_t first);
Napi::Value MapDelete(const Napi::CallbackInfo& info, const BpfMap& map, size_t first);
Napi::Value MapEntries(const Napi::CallbackInfo& info, const BpfMap& map);
Napi::Value MapSums(const Napi::CallbackInfo& info, const BpfMap& map, uint32_t count);

// The values of an array that may be mapped.
MappedMemory MapMemory(Napi::Env env, const BpfMap& map);

Napi::Uint8Array ToUint8Array(Napi::Env env, const uint8_t* from, size_t length);

}  // namespace baton
