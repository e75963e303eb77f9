// BPF object files: loadBpf, interface BpfObject and kernelHasFunction of src/host/native.ts.
#include "bpf.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <sys/resource.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "addon.h"
#include "errors.h"
#include "libbpf_log.h"
#include "map.h"
#include "tc.h"

namespace baton {

namespace {

// True if this process may create maps. The smallest map fits any limit of locked memory.
bool MayMakeMaps() {
  return Fd(bpf_map_create(BPF_MAP_TYPE_ARRAY, nullptr, sizeof(uint32_t), sizeof(uint32_t), 1,
                           nullptr))
      .valid();
}

class BpfObject : public Napi::ObjectWrap<BpfObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "BpfObject",
                       {
                           InstanceMethod<&BpfObject::ProgramFd>("programFd"),
                           InstanceMethod<&BpfObject::Update>("mapUpdate"),
                           InstanceMethod<&BpfObject::Lookup>("mapLookup"),
                           InstanceMethod<&BpfObject::Delete>("mapDelete"),
                           InstanceMethod<&BpfObject::Entries>("mapEntries"),
                           InstanceMethod<&BpfObject::Sums>("mapSums"),
                           InstanceMethod<&BpfObject::MapFd>("mapFd"),
                           InstanceMethod<&BpfObject::Memory>("mapMemory"),
                           InstanceMethod<&BpfObject::PinMap>("pinMap"),
                           InstanceMethod<&BpfObject::PinProgram>("pinProgram"),
                           InstanceMethod<&BpfObject::ProgramInfo>("programInfo"),
                           InstanceMethod<&BpfObject::AttachTc>("attachTc"),
                           InstanceMethod<&BpfObject::TestRun>("testRun"),
                           InstanceMethod<&BpfObject::TestRunXdp>("testRunXdp"),
                           InstanceMethod<&BpfObject::Close>("close"),
                       });
  }

  explicit BpfObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  // A map of the object, and a number for it: its size, or the descriptor of a map to reuse.
  struct MapOption {
    std::string map;
    uint32_t number;
  };

  void Open(const std::string& path, const std::vector<MapOption>& sizes,
            const std::vector<MapOption>& reused) {
    const bool unlimited = RaiseLockedMemory();
    const LibbpfLog log;
    // libbpf 1.x returns nullptr and sets errno.
    object_.reset(bpf_object__open_file(path.c_str(), nullptr));
    if (!object_) log.Throw(-errno, "bpf_object__open_file", path);
    for (const MapOption& size : sizes) {
      const int result = bpf_map__set_max_entries(ToSetUp(path, size.map), size.number);
      if (result != 0) log.Throw(result, "bpf_map__set_max_entries", size.map);
    }
    for (const MapOption& map : reused) {
      bpf_map* own = ToSetUp(path, map.map);
      const auto fd = static_cast<int>(map.number);
      // libbpf does not check that the given map fits.
      const BpfMap given = DescribeMap(fd);
      if (given.type != bpf_map__type(own) || given.key_bytes != bpf_map__key_size(own) ||
          given.value_bytes != bpf_map__value_size(own)) {
        throw SystemError{
            EINVAL, "bpf_map__reuse_fd",
            "map " + map.map + " of the program has another type, key size or value size"};
      }
      const int result = bpf_map__reuse_fd(own, fd);
      if (result != 0) log.Throw(result, "bpf_map__reuse_fd", map.map);
    }
    const int result = bpf_object__load(object_.get());
    if (result == -EPERM && !unlimited && MayMakeMaps()) log.Throw(result, "RLIMIT_MEMLOCK", path);
    if (result != 0) log.Throw(result, "bpf_object__load", path);
  }

 private:
  struct Closer {
    void operator()(bpf_object* object) const { bpf_object__close(object); }
  };

  bpf_object* Object() const {
    if (!object_) throw SystemError{EBADF, "bpf_object", "the BPF object is closed"};
    return object_.get();
  }

  bpf_map* ToSetUp(const std::string& path, const std::string& name) const {
    bpf_map* map = bpf_object__find_map_by_name(object_.get(), name.c_str());
    if (map == nullptr) throw SystemError{ENOENT, "bpf_map", path + " has no map " + name};
    return map;
  }

  int Program(const std::string& name) const {
    const bpf_program* program = bpf_object__find_program_by_name(Object(), name.c_str());
    if (program == nullptr)
      throw SystemError{ENOENT, "bpf_program", "the BPF object has no program " + name};
    return bpf_program__fd(program);
  }

  BpfMap Map(const std::string& name) const {
    const bpf_map* map = bpf_object__find_map_by_name(Object(), name.c_str());
    if (map == nullptr) throw SystemError{ENOENT, "bpf_map", "the BPF object has no map " + name};
    return {bpf_map__fd(map),
            0,
            bpf_map__type(map),
            bpf_map__key_size(map),
            bpf_map__value_size(map),
            bpf_map__max_entries(map),
            name};
  }

  // The map with the name in argument 0.
  BpfMap NamedMap(const Napi::CallbackInfo& info) const {
    const std::string name = StringArgument(info, 0);
    return Guard(info.Env(), [&] { return Map(name); });
  }

  // The descriptor of the program with the name in argument 0.
  int NamedProgram(const Napi::CallbackInfo& info) const {
    const std::string name = StringArgument(info, 0);
    return Guard(info.Env(), [&] { return Program(name); });
  }

  Napi::Value ProgramFd(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), NamedProgram(info));
  }

  Napi::Value MapFd(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), NamedMap(info).fd);
  }

  Napi::Value Update(const Napi::CallbackInfo& info) { return MapUpdate(info, NamedMap(info), 1); }
  Napi::Value Lookup(const Napi::CallbackInfo& info) { return MapLookup(info, NamedMap(info), 1); }
  Napi::Value Delete(const Napi::CallbackInfo& info) { return MapDelete(info, NamedMap(info), 1); }
  Napi::Value Entries(const Napi::CallbackInfo& info) { return MapEntries(info, NamedMap(info)); }
  Napi::Value Sums(const Napi::CallbackInfo& info) {
    return MapSums(info, NamedMap(info), NumberArgument(info, 1));
  }

  Napi::Value Memory(const Napi::CallbackInfo& info) {
    const BpfMap map = NamedMap(info);
    MappedMemory& memory = memories_[map.name];
    if (!memory.open()) memory = Guard(info.Env(), [&] { return MapMemory(info.Env(), map); });
    return memory.Value();
  }

  Napi::Value PinMap(const Napi::CallbackInfo& info) {
    Pin(info, NamedMap(info).fd);
    return info.Env().Undefined();
  }

  Napi::Value PinProgram(const Napi::CallbackInfo& info) {
    Pin(info, NamedProgram(info));
    return info.Env().Undefined();
  }

  static void Pin(const Napi::CallbackInfo& info, int fd) {
    const std::string path = StringArgument(info, 1);
    Guard(info.Env(), [&] {
      if (bpf_obj_pin(fd, path.c_str()) != 0) ThrowSystem("bpf_obj_pin", path);
    });
  }

  Napi::Value AttachTc(const Napi::CallbackInfo& info) {
    const std::string name = StringArgument(info, 0);
    const TcPlace place = TcPlaceArguments(info, 1);
    Guard(info.Env(), [&] { AttachToTc(Program(name), place); });
    return info.Env().Undefined();
  }

  Napi::Value ProgramInfo(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const int fd = NamedProgram(info);
    bpf_prog_info program{};
    Guard(env, [&] {
      uint32_t length = sizeof program;
      if (bpf_obj_get_info_by_fd(fd, &program, &length) != 0) ThrowSystem("bpf_obj_get_info_by_fd");
    });
    Napi::Object result = Napi::Object::New(env);
    result.Set("id", program.id);
    result.Set("runNanoseconds", static_cast<double>(program.run_time_ns));
    result.Set("runCount", static_cast<double>(program.run_cnt));
    return result;
  }

  Napi::Value TestRun(const Napi::CallbackInfo& info) {
    return TestRunTc(info, NamedProgram(info));
  }
  Napi::Value TestRunXdp(const Napi::CallbackInfo& info) {
    return baton::TestRunXdp(info, NamedProgram(info));
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    for (auto& memory : memories_) memory.second.Close();
    memories_.clear();
    object_.reset();
    return info.Env().Undefined();
  }

  std::map<std::string, MappedMemory> memories_;
  std::unique_ptr<bpf_object, Closer> object_;
};

// Option `name`: an object with a number for each map.
std::vector<BpfObject::MapOption> MapOptions(const Napi::Value& options, const char* name) {
  std::vector<BpfObject::MapOption> result;
  if (!options.IsObject() || !options.As<Napi::Object>().Get(name).IsObject()) return result;
  const auto from = options.As<Napi::Object>().Get(name).As<Napi::Object>();
  const Napi::Array maps = from.GetPropertyNames();
  for (uint32_t i = 0; i < maps.Length(); i++) {
    const std::string map = maps.Get(i).ToString().Utf8Value();
    result.push_back({map, from.Get(map).ToNumber().Uint32Value()});
  }
  return result;
}

}  // namespace

bool RaiseLockedMemory() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return false;
  if (limit.rlim_cur == RLIM_INFINITY) return true;
  limit = {RLIM_INFINITY, RLIM_INFINITY};
  return ::setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
}

Napi::Function DefineBpfObject(Napi::Env env) {
  return BpfObject::Define(env);
}

Napi::Value LoadBpf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = StringArgument(info, 0);
  const auto sizes = MapOptions(info[1], "maxEntries");
  const auto reused = MapOptions(info[1], "reuse");
  Napi::Object object = env.GetInstanceData<AddonData>()->bpf_object.New({});
  Guard(env, [&] { BpfObject::Unwrap(object)->Open(path, sizes, reused); });
  return object;
}

Napi::Value KernelHasFunction(const Napi::CallbackInfo& info) {
  const std::string name = StringArgument(info, 0);
  const LibbpfLog log;
  btf* kernel = btf__load_vmlinux_btf();
  const bool found =
      kernel != nullptr && btf__find_by_name_kind(kernel, name.c_str(), BTF_KIND_FUNC) >= 0;
  btf__free(kernel);
  return Napi::Boolean::New(info.Env(), found);
}

}  // namespace baton
