// BPF object files: loadBpf and interface BpfObject of src/base/native.ts, and kernelHasFunction.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <net/if.h>

#include <cstdarg>
#include <cstdio>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "addon.h"
#include "errors.h"
#include "libbpf_log.h"
#include "tc.h"

namespace baton {

namespace {

constexpr size_t kKeptBytes = 2048;

// libbpf has one print function for the whole process, and calls it in the thread that called libbpf.
thread_local std::string* collected = nullptr;

int Collect(libbpf_print_level level, const char* format, va_list arguments) {
  if (collected == nullptr || level != LIBBPF_WARN) return 0;
  va_list measured;
  va_copy(measured, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, measured);
  va_end(measured);
  if (length <= 0) return 0;
  std::vector<char> line(static_cast<size_t>(length) + 1);
  std::vsnprintf(line.data(), line.size(), format, arguments);
  collected->append(line.data(), static_cast<size_t>(length));
  if (collected->size() > kKeptBytes) collected->erase(0, collected->size() - kKeptBytes);
  return 0;
}

bool IsPerCpu(const bpf_map* map) {
  switch (bpf_map__type(map)) {
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE:
      return true;
    default:
      return false;
  }
}

using Bytes = std::vector<uint8_t>;

Napi::Uint8Array ToUint8Array(Napi::Env env, const uint8_t* from, size_t length) {
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, length);
  std::copy(from, from + length, bytes.Data());
  return bytes;
}

class BpfObject : public Napi::ObjectWrap<BpfObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "BpfObject",
                       {
                           InstanceMethod<&BpfObject::ProgramFd>("programFd"),
                           InstanceMethod<&BpfObject::MapUpdate>("mapUpdate"),
                           InstanceMethod<&BpfObject::MapLookup>("mapLookup"),
                           InstanceMethod<&BpfObject::MapDelete>("mapDelete"),
                           InstanceMethod<&BpfObject::MapEntries>("mapEntries"),
                           InstanceMethod<&BpfObject::MapSums>("mapSums"),
                           InstanceMethod<&BpfObject::AttachTc>("attachTc"),
                           InstanceMethod<&BpfObject::TestRun>("testRun"),
                           InstanceMethod<&BpfObject::Close>("close"),
                       });
  }

  explicit BpfObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  struct MapSize {
    std::string map;
    uint32_t max_entries;
  };

  void Open(const std::string& path, const std::vector<MapSize>& sizes) {
    const LibbpfLog log;
    // libbpf 1.x returns nullptr and sets errno.
    object_.reset(bpf_object__open_file(path.c_str(), nullptr));
    if (!object_) log.Throw(-errno, "bpf_object__open_file", path);
    for (const MapSize& size : sizes) {
      bpf_map* map = bpf_object__find_map_by_name(object_.get(), size.map.c_str());
      if (map == nullptr)
        throw SystemError{ENOENT, "bpf_map__set_max_entries", path + ": no map " + size.map};
      const int result = bpf_map__set_max_entries(map, size.max_entries);
      if (result != 0) log.Throw(result, "bpf_map__set_max_entries", size.map);
    }
    const int result = bpf_object__load(object_.get());
    if (result != 0) log.Throw(result, "bpf_object__load", path);
  }

 private:
  struct Closer {
    void operator()(bpf_object* object) const { bpf_object__close(object); }
  };

  bpf_object* Object() const {
    if (!object_) throw SystemError{EBADF, "bpf_object", "closed"};
    return object_.get();
  }

  int Program(const std::string& name) const {
    const bpf_program* program = bpf_object__find_program_by_name(Object(), name.c_str());
    if (program == nullptr) throw SystemError{ENOENT, "bpf_program", "no program " + name};
    return bpf_program__fd(program);
  }

  const bpf_map* Map(const std::string& name) const {
    const bpf_map* map = bpf_object__find_map_by_name(Object(), name.c_str());
    if (map == nullptr) throw SystemError{ENOENT, "bpf_map", "no map " + name};
    return map;
  }

  // A map whose values are one each, not one for each CPU.
  const bpf_map* PlainMap(const std::string& name) const {
    const bpf_map* map = Map(name);
    if (IsPerCpu(map)) throw SystemError{EINVAL, "bpf_map", name + " has a value for each CPU"};
    return map;
  }

  static const uint8_t* Sized(const Napi::Uint8Array& bytes, uint32_t expected, const char* what) {
    if (bytes.ByteLength() != expected) {
      throw SystemError{EINVAL, "bpf_map",
                        std::string(what) + " of " + std::to_string(bytes.ByteLength()) +
                            " bytes instead of " + std::to_string(expected)};
    }
    return bytes.Data();
  }

  Napi::Value ProgramFd(const Napi::CallbackInfo& info) {
    const std::string name = StringArgument(info, 0);
    return Napi::Number::New(info.Env(), Guard(info.Env(), [&] { return Program(name); }));
  }

  Napi::Value MapUpdate(const Napi::CallbackInfo& info) {
    const std::string name = StringArgument(info, 0);
    const Napi::Uint8Array key = BytesArgument(info, 1);
    const Napi::Uint8Array value = BytesArgument(info, 2);
    Guard(info.Env(), [&] {
      const bpf_map* map = PlainMap(name);
      if (bpf_map_update_elem(bpf_map__fd(map), Sized(key, bpf_map__key_size(map), "a key"),
                              Sized(value, bpf_map__value_size(map), "a value"), BPF_ANY) != 0) {
        ThrowSystem("bpf_map_update_elem", name);
      }
    });
    return info.Env().Undefined();
  }

  Napi::Value MapLookup(const Napi::CallbackInfo& info) {
    const std::string name = StringArgument(info, 0);
    const Napi::Uint8Array key = BytesArgument(info, 1);
    return Guard(info.Env(), [&]() -> Napi::Value {
      const bpf_map* map = PlainMap(name);
      Bytes value(bpf_map__value_size(map));
      if (bpf_map_lookup_elem(bpf_map__fd(map), Sized(key, bpf_map__key_size(map), "a key"), value.data()) ==
          0) {
        return ToUint8Array(info.Env(), value.data(), value.size());
      }
      if (errno != ENOENT) ThrowSystem("bpf_map_lookup_elem", name);
      return info.Env().Undefined();
    });
  }

  Napi::Value MapDelete(const Napi::CallbackInfo& info) {
    const std::string name = StringArgument(info, 0);
    const Napi::Uint8Array key = BytesArgument(info, 1);
    const bool deleted = Guard(info.Env(), [&] {
      const bpf_map* map = Map(name);
      if (bpf_map_delete_elem(bpf_map__fd(map), Sized(key, bpf_map__key_size(map), "a key")) == 0)
        return true;
      if (errno != ENOENT) ThrowSystem("bpf_map_delete_elem", name);
      return false;
    });
    return Napi::Boolean::New(info.Env(), deleted);
  }

  // A map may change meanwhile: an entry that goes away is left out, and when the kernel begins again
  // because the key to go on from went away, entries that were seen are not repeated.
  static std::vector<std::pair<Bytes, Bytes>> Entries(const bpf_map* map, const std::string& name) {
    std::vector<std::pair<Bytes, Bytes>> entries;
    std::set<Bytes> seen;
    const int fd = bpf_map__fd(map);
    Bytes key(bpf_map__key_size(map));
    Bytes value(bpf_map__value_size(map));
    bool first = true;
    for (uint64_t i = 0; i < 2 * static_cast<uint64_t>(bpf_map__max_entries(map)); i++) {
      if (bpf_map_get_next_key(fd, first ? nullptr : key.data(), key.data()) != 0) {
        if (errno != ENOENT) ThrowSystem("bpf_map_get_next_key", name);
        break;
      }
      first = false;
      if (bpf_map_lookup_elem(fd, key.data(), value.data()) == 0 && seen.insert(key).second) {
        entries.emplace_back(key, value);
      }
    }
    return entries;
  }

  Napi::Value MapEntries(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const std::string name = StringArgument(info, 0);
    const auto entries = Guard(env, [&] { return Entries(PlainMap(name), name); });
    Napi::Array result = Napi::Array::New(env, entries.size());
    for (uint32_t i = 0; i < entries.size(); i++) {
      Napi::Object entry = Napi::Object::New(env);
      entry.Set("key", ToUint8Array(env, entries[i].first.data(), entries[i].first.size()));
      entry.Set("value", ToUint8Array(env, entries[i].second.data(), entries[i].second.size()));
      result.Set(i, entry);
    }
    return result;
  }

  Napi::Value MapSums(const Napi::CallbackInfo& info) {
    const std::string name = StringArgument(info, 0);
    const uint32_t count = NumberArgument(info, 1);
    const std::vector<double> sums = Guard(info.Env(), [&] {
      const bpf_map* map = Map(name);
      if (bpf_map__type(map) != BPF_MAP_TYPE_PERCPU_ARRAY || bpf_map__value_size(map) != sizeof(uint64_t) ||
          count > bpf_map__max_entries(map)) {
        throw SystemError{EINVAL, "bpf_map", name + " is no per-CPU array of that many u64"};
      }
      const int cpus = libbpf_num_possible_cpus();
      if (cpus < 0) throw SystemError{-cpus, "libbpf_num_possible_cpus", ""};
      std::vector<uint64_t> values(static_cast<size_t>(cpus));
      std::vector<double> result(count);
      for (uint32_t i = 0; i < count; i++) {
        if (bpf_map_lookup_elem(bpf_map__fd(map), &i, values.data()) != 0)
          ThrowSystem("bpf_map_lookup_elem", name);
        uint64_t sum = 0;
        for (const uint64_t value : values) sum += value;
        result[i] = static_cast<double>(sum);
      }
      return result;
    });
    Napi::Float64Array result = Napi::Float64Array::New(info.Env(), count);
    std::copy(sums.begin(), sums.end(), result.Data());
    return result;
  }

  Napi::Value AttachTc(const Napi::CallbackInfo& info) {
    const std::string name = StringArgument(info, 0);
    const TcPlace place = TcPlaceArguments(info, 1);
    Guard(info.Env(), [&] { AttachToTc(Program(name), place); });
    return info.Env().Undefined();
  }

  Napi::Value TestRun(const Napi::CallbackInfo& info);

  Napi::Value Close(const Napi::CallbackInfo& info) {
    object_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<bpf_object, Closer> object_;
};

uint32_t OptionalNumber(const Napi::Value& options, const char* name) {
  if (!options.IsObject()) return 0;
  const Napi::Value value = options.As<Napi::Object>().Get(name);
  return value.IsNumber() ? value.As<Napi::Number>().Uint32Value() : 0;
}

Napi::Value BpfObject::TestRun(const Napi::CallbackInfo& info) {
  // Programs grow a frame by headers, not by more.
  constexpr size_t kGrowthBytes = 4096;
  const Napi::Env env = info.Env();
  const std::string name = StringArgument(info, 0);
  const Napi::Uint8Array frame = BytesArgument(info, 1);
  __sk_buff context{};
  context.mark = OptionalNumber(info[2], "mark");
  context.ingress_ifindex = OptionalNumber(info[2], "ingressIndex");
  context.ifindex = OptionalNumber(info[2], "interfaceIndex");
  __sk_buff context_out{};
  Bytes out(frame.ByteLength() + kGrowthBytes);
  bpf_test_run_opts run{};
  run.sz = sizeof run;
  run.data_in = frame.Data();
  run.data_size_in = static_cast<uint32_t>(frame.ByteLength());
  run.data_out = out.data();
  run.data_size_out = static_cast<uint32_t>(out.size());
  run.ctx_in = &context;
  run.ctx_size_in = sizeof context;
  run.ctx_out = &context_out;
  run.ctx_size_out = sizeof context_out;
  Guard(env, [&] {
    if (bpf_prog_test_run_opts(Program(name), &run) != 0) ThrowSystem("bpf_prog_test_run_opts", name);
  });
  Napi::Object result = Napi::Object::New(env);
  // TC_ACT_UNSPEC is -1.
  result.Set("verdict", static_cast<int32_t>(run.retval));
  result.Set("frame", ToUint8Array(env, out.data(), run.data_size_out));
  result.Set("mark", context_out.mark);
  return result;
}

}  // namespace

LibbpfLog::LibbpfLog() {
  static std::once_flag once;
  std::call_once(once, [] { libbpf_set_print(Collect); });
  collected = new std::string;
}

LibbpfLog::~LibbpfLog() {
  delete collected;
  collected = nullptr;
}

std::string LibbpfLog::Text() const {
  return *collected;
}

Napi::Function DefineBpfObject(Napi::Env env) {
  return BpfObject::Define(env);
}

Napi::Value LoadBpf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = StringArgument(info, 0);
  std::vector<BpfObject::MapSize> sizes;
  if (info[1].IsObject() && info[1].As<Napi::Object>().Get("maxEntries").IsObject()) {
    const Napi::Object entries = info[1].As<Napi::Object>().Get("maxEntries").As<Napi::Object>();
    const Napi::Array names = entries.GetPropertyNames();
    for (uint32_t i = 0; i < names.Length(); i++) {
      const std::string map = names.Get(i).ToString().Utf8Value();
      sizes.push_back({map, entries.Get(map).ToNumber().Uint32Value()});
    }
  }
  Napi::Object object = env.GetInstanceData<AddonData>()->bpf_object.New({});
  Guard(env, [&] { BpfObject::Unwrap(object)->Open(path, sizes); });
  return object;
}

Napi::Value KernelHasFunction(const Napi::CallbackInfo& info) {
  const std::string name = StringArgument(info, 0);
  const LibbpfLog log;
  btf* kernel = btf__load_vmlinux_btf();
  const bool found = kernel != nullptr && btf__find_by_name_kind(kernel, name.c_str(), BTF_KIND_FUNC) >= 0;
  btf__free(kernel);
  return Napi::Boolean::New(info.Env(), found);
}

}  // namespace baton
