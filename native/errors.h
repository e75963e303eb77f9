// Errors of the kernel, as JavaScript errors.
//
// Code that talks to the kernel throws SystemError and does not depend on JavaScript. Functions
// that JavaScript calls turn a SystemError into an Error with `code` and `syscall`.
#pragma once

#include <bpf/libbpf.h>
#include <napi.h>
#include <uv.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>

namespace baton {

// A call that the kernel refused.
struct SystemError {
  int error;            // errno, positive
  const char* syscall;  // name of the call: a literal
  std::string detail;   // more about the error, for people; or empty
};

[[noreturn]] inline void ThrowSystem(const char* syscall, std::string detail = "") {
  throw SystemError{errno, syscall, std::move(detail)};
}

// The JavaScript Error for a SystemError: `EPERM: operation not permitted, socket`.
inline Napi::Error ToJavaScript(Napi::Env env, const SystemError& failure) {
  char name[64];
  char text[128];
  // ENOTSUPP of the kernel, which no header of user space defines.
  constexpr int kNotSupported = 524;
  const int error_number = failure.error == kNotSupported ? ENOTSUP : failure.error;
  if (error_number >= __LIBBPF_ERRNO__START) {
    // An error of libbpf itself, for example about a file that is no BPF object.
    std::snprintf(name, sizeof name, "ELIBBPF");
    libbpf_strerror(error_number, text, sizeof text);
  } else {
    uv_err_name_r(-error_number, name, sizeof name);
    uv_strerror_r(-error_number, text, sizeof text);
  }
  std::string message = std::string(name) + ": " + text + ", " + failure.syscall;
  if (!failure.detail.empty()) message += ": " + failure.detail;
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, name));
  error.Set("syscall", Napi::String::New(env, failure.syscall));
  return error;
}

// Runs `body`, and throws its SystemError as a JavaScript Error.
template <typename Body>
auto Guard(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const SystemError& failure) {
    throw ToJavaScript(env, failure);
  }
}

// Throws a TypeError for a wrong argument: an error of the calling code, not of the machine.
[[noreturn]] inline void ThrowArgument(Napi::Env env, const std::string& message) {
  throw Napi::TypeError::New(env, message);
}

// A file descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd();

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

}  // namespace baton
