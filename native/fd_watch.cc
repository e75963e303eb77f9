#include "fd_watch.h"

#include <utility>

#include "errors.h"

namespace baton {

FdWatch::FdWatch(Napi::Env env, const char* name, Napi::Function function,
                 std::function<void(bool error)> on_ready)
    : env_(env),
      function_(Napi::Persistent(function)),
      context_(std::in_place, env, name),
      on_ready_(std::move(on_ready)) {
}

std::shared_ptr<FdWatch> FdWatch::Start(Napi::Env env, int fd, const char* name,
                                        Napi::Function function,
                                        std::function<void(bool error)> on_ready) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw SystemError{EINVAL, "uv_loop", ""};
  std::shared_ptr<FdWatch> watch(new FdWatch(env, name, function, std::move(on_ready)));
  const int status = uv_poll_init(loop, &watch->handle_, fd);
  if (status != 0) throw SystemError{-status, "uv_poll_init", ""};
  watch->handle_.data = watch.get();
  watch->self_ = watch;
  // An environment ends without closing its objects. An asynchronous hook keeps the environment
  // until libuv has closed the handle.
  napi_add_async_cleanup_hook(env, OnTeardown, watch.get(), &watch->hook_);
  watch->Poll();
  return watch;
}

void FdWatch::Poll() {
  uv_poll_start(&handle_, UV_READABLE, OnPoll);
}

void FdWatch::OnPoll(uv_poll_t* handle, int status, int) {
  auto* watch = static_cast<FdWatch*>(handle->data);
  Napi::HandleScope scope(watch->env_);
  try {
    watch->on_ready_(status < 0);
  } catch (const Napi::Error& error) {
    napi_fatal_exception(watch->env_, error.Value());
  }
  // libuv stops a handle whose descriptor has an error. An interface that went down is such an
  // error, and the interface may come up again.
  if (status < 0 && !watch->closed_) watch->Poll();
}

void FdWatch::Call(size_t count, const napi_value* arguments) {
  const napi_env env = env_;
  napi_value receiver = nullptr;
  if (napi_get_global(env, &receiver) != napi_ok) return;
  const napi_status status =
      napi_make_callback(env, *context_, receiver, function_.Value(), count, arguments, nullptr);
  if (status != napi_pending_exception) return;
  napi_value error = nullptr;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

void FdWatch::Close() {
  if (closed_) return;
  closed_ = true;
  uv_poll_stop(&handle_);
  uv_close(reinterpret_cast<uv_handle_t*>(&handle_), OnClosed);
}

void FdWatch::OnClosed(uv_handle_t* handle) {
  auto* watch = static_cast<FdWatch*>(handle->data);
  const napi_async_cleanup_hook_handle hook = watch->hook_;
  Napi::HandleScope scope(watch->env_);
  watch->function_.Reset();
  watch->context_.reset();
  std::shared_ptr<FdWatch> last = std::move(watch->self_);
  last.reset();
  napi_remove_async_cleanup_hook(hook);
}

// OnClosed follows, and removes the hook.
void FdWatch::OnTeardown(napi_async_cleanup_hook_handle, void* data) {
  static_cast<FdWatch*>(data)->Close();
}

ObjectWatch::~ObjectWatch() {
  if (watch_) watch_->Close();
}

void ObjectWatch::Start(const Napi::CallbackInfo& info, Napi::Reference<Napi::Object>& owner,
                        int fd, const char* resource, const std::string& what, OnReady on_ready) {
  const Napi::Env env = info.Env();
  if (!info[0].IsFunction()) ThrowArgument(env, "a function is expected");
  if (watch_) ThrowArgument(env, what + " is started already");
  watch_ = Guard(env, [&] {
    return FdWatch::Start(env, fd, resource, info[0].As<Napi::Function>(),
                          [this, on_ready = std::move(on_ready)](bool error) {
                            // The callback may close and destroy the owner.
                            const std::shared_ptr<FdWatch> watch = watch_;
                            on_ready(*watch, error);
                          });
  });
  owner_ = &owner;
  owner_->Ref();
}

void ObjectWatch::Close() {
  if (owner_ == nullptr) return;
  watch_->Close();
  std::exchange(owner_, nullptr)->Unref();
}

}  // namespace baton
