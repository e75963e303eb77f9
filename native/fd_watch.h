// Watches a file descriptor on the event loop of one environment, and calls a JavaScript function.
#pragma once

#include <napi.h>
#include <uv.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace baton {

class FdWatch {
 public:
  // Calls `on_ready` from the event loop whenever `fd` is readable or has an error, until Close().
  // The owner keeps `fd` open until then, and must call Close() before it is destroyed.
  static std::shared_ptr<FdWatch> Start(Napi::Env env, int fd, const char* name,
                                        Napi::Function function,
                                        std::function<void(bool error)> on_ready);

  // Calls the JavaScript function as a separate callback: microtasks run after it, and an exception
  // becomes an uncaught exception. Must run inside a handle scope.
  void Call(size_t count, const napi_value* arguments);

  // Stops at once. Allowed at any time, also inside a callback, and more than once.
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
  // libuv uses handle_ until OnClosed, so until then this object keeps itself alive.
  std::shared_ptr<FdWatch> self_;
  bool closed_ = false;
};

// The watch of an object that JavaScript holds: its methods start() and close(). Declare it as the
// last member, so that it ends before the descriptor closes.
class ObjectWatch {
 public:
  using OnReady = std::function<void(FdWatch& watch, bool error)>;

  ObjectWatch() = default;
  ObjectWatch(const ObjectWatch&) = delete;
  ObjectWatch& operator=(const ObjectWatch&) = delete;
  ~ObjectWatch();

  // Calls the function in argument 0 when `on_ready` says so. Until Close(), JavaScript does not
  // collect `owner`. `resource` names the watch in asynchronous hooks, and `what` names the owner
  // in messages. Throws a TypeError if argument 0 is no function, or the watch is running.
  void Start(const Napi::CallbackInfo& info, Napi::Reference<Napi::Object>& owner, int fd,
             const char* resource, const std::string& what, OnReady on_ready);
  void Close();

 private:
  std::shared_ptr<FdWatch> watch_;
  Napi::Reference<Napi::Object>* owner_ = nullptr;
};

}  // namespace baton
