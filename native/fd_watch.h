// A file descriptor watched on the event loop of the environment that asked, with a JavaScript
// function to call. Used by the packet ring and the raw socket.
#pragma once

#include <napi.h>
#include <uv.h>

#include <functional>
#include <memory>
#include <optional>

namespace baton {

class FdWatch {
 public:
  // Calls `on_ready` from the event loop whenever `fd` is readable or in error, until Close(). The
  // owner keeps `fd` open until then, and must call Close() before it goes away.
  static std::shared_ptr<FdWatch> Start(Napi::Env env, int fd, const char* name,
                                        Napi::Function function,
                                        std::function<void(bool error)> on_ready);

  // Calls the JavaScript function as a callback of its own: microtasks run after it, and what it
  // throws becomes an uncaught exception. Must run inside a handle scope.
  void Call(size_t count, const napi_value* arguments);

  // Stops at once; allowed at any time, also from inside a callback, and again.
  void Close();
  bool closed() const { return closed_; }
  Napi::Env env() const { return env_; }

 private:
  FdWatch(Napi::Env env, const char* name, Napi::Function function,
          std::function<void(bool error)> on_ready);
  void Poll();
  static void OnPoll(uv_poll_t* handle, int status, int events);
  static void OnClosed(uv_handle_t* handle);
  static void OnTeardown(napi_async_cleanup_hook_handle hook, void* data);

  Napi::Env env_;
  Napi::FunctionReference function_;
  std::optional<Napi::AsyncContext> context_;
  std::function<void(bool error)> on_ready_;
  uv_poll_t handle_{};
  napi_async_cleanup_hook_handle hook_ = nullptr;
  // libuv holds handle_ until OnClosed, so until then this object holds itself.
  std::shared_ptr<FdWatch> self_;
  bool closed_ = false;
};

}  // namespace baton
