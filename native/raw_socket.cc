// A raw IP socket: interface RawSocket of src/host/native.ts. It carries the few datagrams per
// second between agent and balancer, so it may allocate.
#include <netinet/in.h>
#include <netinet/ip.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>

#include "addon.h"
#include "address.h"
#include "errors.h"
#include "fd_watch.h"

namespace baton {

namespace {

// Datagrams per wakeup, so that a flood does not block the event loop.
constexpr int kDatagramsPerWakeup = 256;
constexpr size_t kDatagramBytes = 65536;
constexpr int kReceiveBufferBytes = 4 << 20;

// The address of a machine, without a port, as system calls take it.
class SocketAddress {
 public:
  explicit SocketAddress(const IpAddress& from) {
    if (from.family == AF_INET6) {
      auto& address = reinterpret_cast<sockaddr_in6&>(storage_);
      address.sin6_family = AF_INET6;
      std::memcpy(&address.sin6_addr, from.bytes, sizeof address.sin6_addr);
      size_ = sizeof address;
    } else {
      auto& address = reinterpret_cast<sockaddr_in&>(storage_);
      address.sin_family = AF_INET;
      std::memcpy(&address.sin_addr, from.bytes, sizeof address.sin_addr);
      size_ = sizeof address;
    }
  }

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }

 private:
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

class RawSocketObject : public Napi::ObjectWrap<RawSocketObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "RawSocket",
                       {
                           InstanceMethod<&RawSocketObject::Send>("send"),
                           InstanceMethod<&RawSocketObject::Start>("start"),
                           InstanceMethod<&RawSocketObject::Close>("close"),
                       });
  }

  explicit RawSocketObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  void Open(int protocol, const IpAddress& own) {
    const int fd = ::socket(own.family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (fd < 0) ThrowSystem("socket", "SOCK_RAW");
    socket_ = Fd(fd);
    // The kernel chooses among several IPv6 addresses of an interface by rules of its own (RFC
    // 6724).
    const SocketAddress address(own);
    if (own.family == AF_INET6 && ::bind(fd, address.get(), address.size()) < 0)
      ThrowSystem("bind", ToText(own));
    // A larger buffer is useful but not required, so an error does not matter.
    ::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBufferBytes, sizeof kReceiveBufferBytes);
  }

 private:
  void RequireOpen(Napi::Env env) const {
    if (!socket_.valid()) throw Napi::Error::New(env, "the raw socket is closed");
  }

  Napi::Value Send(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    RequireOpen(env);
    const IpAddress destination = AddressArgument(info, 0);
    const Napi::Uint8Array payload = BytesArgument(info, 1);
    const SocketAddress address(destination);
    Guard(env, [&] {
      if (::sendto(socket_.get(), payload.Data(), payload.ByteLength(), MSG_DONTWAIT, address.get(),
                   address.size()) < 0)
        ThrowSystem("sendto", ToText(destination));
    });
    return env.Undefined();
  }

  Napi::Value Start(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    RequireOpen(env);
    watch_.Start(info, *this, socket_.get(), "baton:RawSocket", "the raw socket",
                 [this](FdWatch& watch, bool) { OnReady(watch); });
    return env.Undefined();
  }

  void OnReady(FdWatch& watch) {
    const auto buffer = std::make_unique<uint8_t[]>(kDatagramBytes);
    for (int i = 0; i < kDatagramsPerWakeup && !watch.closed(); i++) {
      sockaddr_storage from{};
      socklen_t from_length = sizeof from;
      const ssize_t received = ::recvfrom(socket_.get(), buffer.get(), kDatagramBytes, MSG_DONTWAIT,
                                          reinterpret_cast<sockaddr*>(&from), &from_length);
      // The error of an earlier send, such as "host unreachable", is reported here once.
      if (received < 0 && errno != EAGAIN && errno != EINTR) continue;
      if (received < 0) return;
      Deliver(watch, from, buffer.get(), static_cast<size_t>(received));
    }
  }

  // The kernel delivers the IPv4 header as well, and has checked it: raw(7). It delivers no IPv6
  // header: ipv6(7).
  static void Deliver(FdWatch& watch, const sockaddr_storage& from, const uint8_t* datagram,
                      size_t length) {
    IpAddress source;
    size_t header_bytes = 0;
    source.family = from.ss_family;
    if (from.ss_family == AF_INET6) {
      const auto& address = reinterpret_cast<const sockaddr_in6&>(from);
      std::memcpy(source.bytes, &address.sin6_addr, sizeof address.sin6_addr);
    } else {
      iphdr header;
      if (length < sizeof header) return;
      std::memcpy(&header, datagram, sizeof header);
      std::memcpy(source.bytes, &header.saddr, sizeof header.saddr);
      header_bytes = static_cast<size_t>(header.ihl) * 4;
      if (header_bytes < sizeof header || header_bytes > length) return;
    }
    const Napi::Env env = watch.env();
    Napi::HandleScope scope(env);
    Napi::Uint8Array payload = Napi::Uint8Array::New(env, length - header_bytes);
    if (length != header_bytes)
      std::memcpy(payload.Data(), datagram + header_bytes, length - header_bytes);
    const napi_value arguments[] = {ToValue(env, source), payload};
    watch.Call(2, arguments);
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

Napi::Function DefineRawSocket(Napi::Env env) {
  return RawSocketObject::Define(env);
}

Napi::Value OpenRawSocket(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto protocol = static_cast<int>(NumberArgument(info, 0));
  const IpAddress own = info[1].IsUndefined() ? IpAddress{} : AddressArgument(info, 1);
  Napi::Object object = env.GetInstanceData<AddonData>()->raw_socket.New({});
  Guard(env, [&] { RawSocketObject::Unwrap(object)->Open(protocol, own); });
  return object;
}

}  // namespace baton
