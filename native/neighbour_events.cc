// Reports changes of the kernel's neighbour table: interface NeighbourEvents of src/host/native.ts.
#include <linux/neighbour.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "addon.h"
#include "errors.h"
#include "fd_watch.h"
#include "netlink.h"

namespace baton {

namespace {

// Messages per wakeup, so that a flood of changes does not block the event loop.
constexpr int kMessagesPerWakeup = 64;
constexpr size_t kMessageBytes = 65536;

class NeighbourEventsObject : public Napi::ObjectWrap<NeighbourEventsObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "NeighbourEvents",
                       {
                           InstanceMethod<&NeighbourEventsObject::Start>("start"),
                           InstanceMethod<&NeighbourEventsObject::Close>("close"),
                       });
  }

  explicit NeighbourEventsObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  void Open() {
    Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
    if (!socket.valid()) ThrowSystem("socket", "NETLINK_ROUTE");
    sockaddr_nl group{};
    group.nl_family = AF_NETLINK;
    group.nl_groups = RTMGRP_NEIGH;
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&group), sizeof group) < 0)
      ThrowSystem("bind", "RTMGRP_NEIGH");
    socket_ = std::move(socket);
  }

 private:
  Napi::Value Start(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!socket_.valid()) throw Napi::Error::New(env, "the neighbour watch is closed");
    watch_.Start(info, *this, socket_.get(), "baton:NeighbourEvents", "the neighbour watch",
                 [this](FdWatch& watch, bool) { OnReady(watch); });
    return env.Undefined();
  }

  void OnReady(FdWatch& watch) {
    std::vector<uint8_t> bytes(kMessageBytes);
    for (int i = 0; i < kMessagesPerWakeup && !watch.closed(); i++) {
      const ssize_t received = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (received < 0 && errno == EINTR) continue;
      if (received < 0 && errno != ENOBUFS) return;
      // ENOBUFS: the kernel had no room for some changes, so any entry may have changed.
      if (received < 0)
        Notify(watch, nullptr);
      else
        Read(watch, bytes.data(), static_cast<uint32_t>(received));
    }
  }

  static void Read(FdWatch& watch, uint8_t* bytes, uint32_t left) {
    for (auto* message = reinterpret_cast<nlmsghdr*>(bytes);
         NLMSG_OK(message, left) && !watch.closed(); message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_type != RTM_NEWNEIGH && message->nlmsg_type != RTM_DELNEIGH) continue;
      if (message->nlmsg_len < NLMSG_LENGTH(sizeof(ndmsg))) continue;
      const auto* entry = static_cast<const ndmsg*>(NLMSG_DATA(message));
      const auto* first = reinterpret_cast<const rtattr*>(reinterpret_cast<const char*>(entry) +
                                                          NLMSG_ALIGN(sizeof *entry));
      const rtattr* attribute =
          FindAttribute(first, static_cast<int>(NLMSG_PAYLOAD(message, sizeof *entry)), NDA_DST);
      IpAddress address;
      if (ReadIpAddress(attribute, entry->ndm_family, address)) Notify(watch, &address);
    }
  }

  static void Notify(FdWatch& watch, const IpAddress* address) {
    const Napi::Env env = watch.env();
    Napi::HandleScope scope(env);
    const napi_value what = address == nullptr ? env.Undefined() : ToValue(env, *address);
    watch.Call(1, &what);
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    if (!socket_.valid()) return info.Env().Undefined();
    watch_.Close();
    Fd closing = std::move(socket_);
    return info.Env().Undefined();
  }

  Fd socket_;
  ObjectWatch watch_;
};

}  // namespace

Napi::Function DefineNeighbourEvents(Napi::Env env) {
  return NeighbourEventsObject::Define(env);
}

Napi::Value OpenNeighbourEvents(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object object = env.GetInstanceData<AddonData>()->neighbour_events.New({});
  Guard(env, [&] { NeighbourEventsObject::Unwrap(object)->Open(); });
  return object;
}

}  // namespace baton
