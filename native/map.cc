#include "map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "addon.h"
#include "errors.h"

namespace baton {

namespace {

bool IsPerCpu(const BpfMap& map) {
  switch (map.type) {
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE:
      return true;
    default:
      return false;
  }
}

// Throws for a map with a value for each CPU.
void RequirePlain(const BpfMap& map) {
  if (IsPerCpu(map))
    throw SystemError{EINVAL, "bpf_map",
                      "map " + map.name + " has a value for each CPU; use mapSums"};
}

const uint8_t* Sized(const Napi::Uint8Array& bytes, uint32_t expected, const char* what) {
  if (bytes.ByteLength() != expected) {
    throw SystemError{EINVAL, "bpf_map",
                      std::string(what) + " has " + std::to_string(bytes.ByteLength()) +
                          " bytes; the map needs " + std::to_string(expected)};
  }
  return bytes.Data();
}

// The entries of a map, which may change during the call. A deleted entry is left out. If the last
// key was deleted, the kernel starts again from the first one; entries are not repeated then.
std::vector<std::pair<Bytes, Bytes>> Entries(const BpfMap& map) {
  RequirePlain(map);
  std::vector<std::pair<Bytes, Bytes>> entries;
  std::set<Bytes> seen;
  Bytes key(map.key_bytes);
  Bytes value(map.value_bytes);
  bool first = true;
  for (uint64_t i = 0; i < 2 * static_cast<uint64_t>(map.max_entries); i++) {
    if (bpf_map_get_next_key(map.fd, first ? nullptr : key.data(), key.data()) != 0) {
      if (errno != ENOENT) ThrowSystem("bpf_map_get_next_key", map.name);
      break;
    }
    first = false;
    if (bpf_map_lookup_elem(map.fd, key.data(), value.data()) == 0 && seen.insert(key).second) {
      entries.emplace_back(key, value);
    }
  }
  return entries;
}

// Values of several u64 give as many sums, one after the other.
std::vector<double> Sums(const BpfMap& map, uint32_t count) {
  const size_t words = map.value_bytes / sizeof(uint64_t);
  if (map.type != BPF_MAP_TYPE_PERCPU_ARRAY || words == 0 ||
      map.value_bytes % sizeof(uint64_t) != 0 || count > map.max_entries) {
    throw SystemError{EINVAL, "bpf_map",
                      "map " + map.name + " is no per-CPU array of that many u64"};
  }
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) throw SystemError{-cpus, "libbpf_num_possible_cpus", ""};
  std::vector<uint64_t> values(static_cast<size_t>(cpus) * words);
  std::vector<double> sums(count * words);
  for (uint32_t i = 0; i < count; i++) {
    if (bpf_map_lookup_elem(map.fd, &i, values.data()) != 0)
      ThrowSystem("bpf_map_lookup_elem", map.name);
    for (size_t at = 0; at < values.size(); at++)
      sums[i * words + at % words] += static_cast<double>(values[at]);
  }
  return sums;
}

}  // namespace

Napi::Uint8Array ToUint8Array(Napi::Env env, const uint8_t* from, size_t length) {
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, length);
  std::copy(from, from + length, bytes.Data());
  return bytes;
}

BpfMap DescribeMap(int fd) {
  bpf_map_info info{};
  uint32_t length = sizeof info;
  if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0) ThrowSystem("bpf_obj_get_info_by_fd", "map");
  return {fd, info.id, info.type, info.key_size, info.value_size, info.max_entries, info.name};
}

int MapFdById(uint32_t id) {
  const int fd = bpf_map_get_fd_by_id(id);
  if (fd < 0) ThrowSystem("bpf_map_get_fd_by_id", std::to_string(id));
  return fd;
}

Napi::Value MapUpdate(const Napi::CallbackInfo& info, const BpfMap& map, size_t first) {
  const Napi::Uint8Array key = BytesArgument(info, first);
  const Napi::Uint8Array value = BytesArgument(info, first + 1);
  Guard(info.Env(), [&] {
    RequirePlain(map);
    if (bpf_map_update_elem(map.fd, Sized(key, map.key_bytes, "a key"),
                            Sized(value, map.value_bytes, "a value"), BPF_ANY) != 0) {
      ThrowSystem("bpf_map_update_elem", map.name);
    }
  });
  return info.Env().Undefined();
}

Napi::Value MapLookup(const Napi::CallbackInfo& info, const BpfMap& map, size_t first) {
  const Napi::Uint8Array key = BytesArgument(info, first);
  return Guard(info.Env(), [&]() -> Napi::Value {
    RequirePlain(map);
    Bytes value(map.value_bytes);
    if (bpf_map_lookup_elem(map.fd, Sized(key, map.key_bytes, "a key"), value.data()) == 0) {
      return ToUint8Array(info.Env(), value.data(), value.size());
    }
    if (errno != ENOENT) ThrowSystem("bpf_map_lookup_elem", map.name);
    return info.Env().Undefined();
  });
}

Napi::Value MapDelete(const Napi::CallbackInfo& info, const BpfMap& map, size_t first) {
  const Napi::Uint8Array key = BytesArgument(info, first);
  const bool deleted = Guard(info.Env(), [&] {
    if (bpf_map_delete_elem(map.fd, Sized(key, map.key_bytes, "a key")) == 0) return true;
    if (errno != ENOENT) ThrowSystem("bpf_map_delete_elem", map.name);
    return false;
  });
  return Napi::Boolean::New(info.Env(), deleted);
}

Napi::Value MapEntries(const Napi::CallbackInfo& info, const BpfMap& map) {
  const Napi::Env env = info.Env();
  const auto entries = Guard(env, [&] { return Entries(map); });
  Napi::Array result = Napi::Array::New(env, entries.size());
  for (uint32_t i = 0; i < entries.size(); i++) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("key", ToUint8Array(env, entries[i].first.data(), entries[i].first.size()));
    entry.Set("value", ToUint8Array(env, entries[i].second.data(), entries[i].second.size()));
    result.Set(i, entry);
  }
  return result;
}

Napi::Value MapSums(const Napi::CallbackInfo& info, const BpfMap& map, uint32_t count) {
  const std::vector<double> sums = Guard(info.Env(), [&] { return Sums(map, count); });
  Napi::Float64Array result = Napi::Float64Array::New(info.Env(), sums.size());
  std::copy(sums.begin(), sums.end(), result.Data());
  return result;
}

MappedMemory MapMemory(Napi::Env env, const BpfMap& map) {
  // The kernel pads values to eight bytes, and the array to pages.
  const uint64_t bytes = (static_cast<uint64_t>(map.value_bytes) + 7) / 8 * 8 * map.max_entries;
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  std::shared_ptr<Mapping> mapping;
  try {
    mapping = std::make_shared<Mapping>(map.fd, (bytes + page - 1) / page * page);
  } catch (SystemError& failure) {
    failure.detail = map.name;
    throw failure;
  }
  return MappedMemory(env, std::move(mapping), bytes);
}

}  // namespace baton
