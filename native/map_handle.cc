// Opens maps and programs of other processes: openMap and openProgram of src/host/native.ts.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <string>

#include "addon.h"
#include "errors.h"
#include "map.h"

namespace baton {

namespace {

// Throws if a descriptor is not a map or program, as `kind` says. Neither a pin nor a descriptor
// shows its kind, and the kernel would describe either.
void RequireKind(int fd, const char* kind) {
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  char target[64];
  const ssize_t length = ::readlink(link.c_str(), target, sizeof target);
  if (length < 0) ThrowSystem("readlink", link);
  if (std::string(target, static_cast<size_t>(length)).find(kind) == std::string::npos) {
    throw SystemError{EINVAL, "bpf_obj_get", std::string("this is no ") + kind};
  }
}

// Opens the map or program that { id }, { path } or { fd } names. The caller owns the descriptor.
Fd Named(const Napi::Value& which, int (*by_id)(uint32_t), const char* call) {
  if (!which.IsObject()) ThrowArgument(which.Env(), "an object with id, path or fd is expected");
  const auto from = which.As<Napi::Object>();
  const Napi::Value id = from.Get("id");
  const Napi::Value path = from.Get("path");
  const Napi::Value fd = from.Get("fd");
  return Guard(which.Env(), [&]() -> Fd {
    if (id.IsNumber()) {
      const uint32_t number = id.As<Napi::Number>().Uint32Value();
      const int found = by_id(number);
      if (found < 0) ThrowSystem(call, std::to_string(number));
      return Fd(found);
    }
    if (path.IsString()) {
      const std::string name = path.As<Napi::String>().Utf8Value();
      const int found = bpf_obj_get(name.c_str());
      if (found < 0) ThrowSystem("bpf_obj_get", name);
      return Fd(found);
    }
    if (!fd.IsNumber()) ThrowArgument(which.Env(), "an object with id, path or fd is expected");
    const int copy = ::fcntl(fd.As<Napi::Number>().Int32Value(), F_DUPFD_CLOEXEC, 0);
    if (copy < 0) ThrowSystem("fcntl");
    return Fd(copy);
  });
}

class MapHandle : public Napi::ObjectWrap<MapHandle> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "MapHandle",
                       {
                           InstanceMethod<&MapHandle::Memory>("memory"),
                           InstanceMethod<&MapHandle::Entries>("entries"),
                           InstanceMethod<&MapHandle::Sums>("sums"),
                           InstanceMethod<&MapHandle::Lookup>("lookup"),
                           InstanceMethod<&MapHandle::Update>("update"),
                           InstanceMethod<&MapHandle::Delete>("delete"),
                           InstanceMethod<&MapHandle::Close>("close"),
                       });
  }

  explicit MapHandle(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  void Open(Fd fd) {
    RequireKind(fd.get(), "bpf-map");
    map_ = DescribeMap(fd.get());
    fd_ = std::move(fd);
    Napi::Object self = Value();
    self.Set("fd", fd_.get());
    self.Set("id", map_.id);
    self.Set("name", map_.name);
    self.Set("type", map_.type);
    self.Set("keyBytes", map_.key_bytes);
    self.Set("valueBytes", map_.value_bytes);
    self.Set("maxEntries", map_.max_entries);
  }

 private:
  const BpfMap& Map(Napi::Env env) const {
    if (!fd_.valid()) throw Napi::Error::New(env, "the map is closed");
    return map_;
  }

  Napi::Value Memory(const Napi::CallbackInfo& info) {
    const BpfMap& map = Map(info.Env());
    if (!memory_.open()) memory_ = Guard(info.Env(), [&] { return MapMemory(info.Env(), map); });
    return memory_.Value();
  }

  Napi::Value Entries(const Napi::CallbackInfo& info) { return MapEntries(info, Map(info.Env())); }
  Napi::Value Sums(const Napi::CallbackInfo& info) {
    return MapSums(info, Map(info.Env()), NumberArgument(info, 0));
  }
  Napi::Value Lookup(const Napi::CallbackInfo& info) { return MapLookup(info, Map(info.Env()), 0); }
  Napi::Value Update(const Napi::CallbackInfo& info) { return MapUpdate(info, Map(info.Env()), 0); }
  Napi::Value Delete(const Napi::CallbackInfo& info) { return MapDelete(info, Map(info.Env()), 0); }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    memory_.Close();
    Fd closing = std::move(fd_);
    return info.Env().Undefined();
  }

  Fd fd_;
  BpfMap map_;
  MappedMemory memory_;
};

class ProgramHandle : public Napi::ObjectWrap<ProgramHandle> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "ProgramHandle", {InstanceMethod<&ProgramHandle::Close>("close")});
  }

  explicit ProgramHandle(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  void Open(Fd fd) {
    RequireKind(fd.get(), "bpf-prog");
    bpf_prog_info program{};
    uint32_t length = sizeof program;
    if (bpf_obj_get_info_by_fd(fd.get(), &program, &length) != 0) {
      ThrowSystem("bpf_obj_get_info_by_fd", "program");
    }
    fd_ = std::move(fd);
    Napi::Object self = Value();
    self.Set("fd", fd_.get());
    self.Set("id", program.id);
    self.Set("name", program.name);
  }

 private:
  Napi::Value Close(const Napi::CallbackInfo& info) {
    Fd closing = std::move(fd_);
    return info.Env().Undefined();
  }

  Fd fd_;
};

}  // namespace

Napi::Function DefineMapHandle(Napi::Env env) {
  return MapHandle::Define(env);
}

Napi::Function DefineProgramHandle(Napi::Env env) {
  return ProgramHandle::Define(env);
}

Napi::Value OpenMap(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Fd fd = Named(info[0], bpf_map_get_fd_by_id, "bpf_map_get_fd_by_id");
  Napi::Object object = env.GetInstanceData<AddonData>()->map_handle.New({});
  Guard(env, [&] { MapHandle::Unwrap(object)->Open(std::move(fd)); });
  return object;
}

Napi::Value OpenProgram(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Fd fd = Named(info[0], bpf_prog_get_fd_by_id, "bpf_prog_get_fd_by_id");
  Napi::Object object = env.GetInstanceData<AddonData>()->program_handle.New({});
  Guard(env, [&] { ProgramHandle::Unwrap(object)->Open(std::move(fd)); });
  return object;
}

}  // namespace baton
