// Collects the warnings of libbpf for error messages.
#pragma once

#include <string>

#include "errors.h"

namespace baton {

// Collects the warnings of libbpf in this thread while the object lives. From the first object on,
// libbpf prints nothing.
class LibbpfLog {
 public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog&) = delete;
  LibbpfLog& operator=(const LibbpfLog&) = delete;

  // The last kKeptBytes bytes of the warnings.
  std::string Text() const;
  // Throws the error of a libbpf call. `result` is a negative errno.
  [[noreturn]] void Throw(int result, const char* call, const std::string& detail = "") const {
    const std::string text = Text();
    throw SystemError{-result, call, detail + (text.empty() || detail.empty() ? "" : "\n") + text};
  }
};

}  // namespace baton
