// What libbpf would print, kept for the error message instead.
#pragma once

#include <string>

#include "errors.h"

namespace baton {

// Collects the warnings that libbpf gives in this thread while the object lives. Its printing is
// off from the first one on.
class LibbpfLog {
 public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog&) = delete;
  LibbpfLog& operator=(const LibbpfLog&) = delete;

  // The end of what was collected, in at most kKeptBytes.
  std::string Text() const;
  // Throws the failure of a libbpf call: `result` is a negative errno.
  [[noreturn]] void Throw(int result, const char* call, const std::string& detail = "") const {
    const std::string text = Text();
    throw SystemError{-result, call, detail + (text.empty() || detail.empty() ? "" : "\n") + text};
  }
};

}  // namespace baton
