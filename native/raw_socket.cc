// A raw IPv4 socket: interface RawSocket of src/host/native.ts. It carries the few datagrams per
// second between agent and balancer, so it may allocate.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>

#include "addon.h"
#include "errors.h"
#include "fd_watch.h"

namespace baton {

namespace {

// Datagrams per wakeup, so that a flood does not block the event loop.
constexpr int kDatagramsPerWakeup = 256;
constexpr size_t kDatagramBytes = 65536;
constexpr int kReceiveBufferBytes = 4 << 20;

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

  void Open(int protocol) {
    const int fd = ::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (fd < 0) ThrowSystem("socket", "SOCK_RAW");
    socket_ = Fd(fd);
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
    const uint32_t destination = NumberArgument(info, 0);
    const Napi::Uint8Array payload = BytesArgument(info, 1);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(destination);
    Guard(env, [&] {
      if (::sendto(socket_.get(), payload.Data(), payload.ByteLength(), MSG_DONTWAIT,
                   reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
        const int error = errno;
        char text[INET_ADDRSTRLEN];
        ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
        throw SystemError{error, "sendto", text};
      }
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
      const ssize_t received = ::recv(socket_.get(), buffer.get(), kDatagramBytes, MSG_DONTWAIT);
      // The error of an earlier send, such as "host unreachable", is reported here once.
      if (received < 0 && errno != EAGAIN && errno != EINTR) continue;
      if (received < 0) return;
      Deliver(watch, buffer.get(), static_cast<size_t>(received));
    }
  }

  // The kernel delivers the IPv4 header as well, and has checked it: raw(7).
  static void Deliver(FdWatch& watch, const uint8_t* datagram, size_t length) {
    iphdr header;
    if (length < sizeof header) return;
    std::memcpy(&header, datagram, sizeof header);
    const size_t header_bytes = static_cast<size_t>(header.ihl) * 4;
    if (header_bytes < sizeof header || header_bytes > length) return;
    const Napi::Env env = watch.env();
    Napi::HandleScope scope(env);
    Napi::Uint8Array payload = Napi::Uint8Array::New(env, length - header_bytes);
    if (length != header_bytes)
      std::memcpy(payload.Data(), datagram + header_bytes, length - header_bytes);
    const napi_value arguments[] = {Napi::Number::New(env, ntohl(header.saddr)), payload};
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
  Napi::Object object = env.GetInstanceData<AddonData>()->raw_socket.New({});
  Guard(env, [&] { RawSocketObject::Unwrap(object)->Open(protocol); });
  return object;
}

}  // namespace baton
