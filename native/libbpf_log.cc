#include "libbpf_log.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <vector>

namespace baton {

namespace {

constexpr size_t kKeptBytes = 2048;

// libbpf has one print function for the whole process. It runs in the thread that called libbpf.
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

}  // namespace baton
