// BPF maps by descriptor, for BpfObject and MapHandle of src/host/native.ts.
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

// Asks the kernel about a map.
BpfMap DescribeMap(int fd);

// Opens a map by its id. The caller closes the descriptor.
int MapFdById(uint32_t id);

// The methods of the same names. Arguments begin at argument `first`.
Napi::Value MapUpdate(const Napi::CallbackInfo& info, const BpfMap& map, size_t first);
Napi::Value MapLookup(const Napi::CallbackInfo& info, const BpfMap& map, size_t first);
Napi::Value MapDelete(const Napi::CallbackInfo& info, const BpfMap& map, size_t first);
Napi::Value MapEntries(const Napi::CallbackInfo& info, const BpfMap& map);
Napi::Value MapSums(const Napi::CallbackInfo& info, const BpfMap& map, uint32_t count);

// Maps the values of an array with BPF_F_MMAPABLE into memory.
MappedMemory MapMemory(Napi::Env env, const BpfMap& map);

Napi::Uint8Array ToUint8Array(Napi::Env env, const uint8_t* from, size_t length);

}  // namespace baton
