// Programs on the clsact hooks of an interface.
#pragma once

#include <napi.h>

#include <cstdint>

namespace baton {

struct TcPlace {
  uint32_t interface_index;
  bool egress;
  uint32_t priority;
  uint32_t handle;
};

// Reads (interface index, 'ingress' | 'egress', priority, handle) from argument `first` on.
TcPlace TcPlaceArguments(const Napi::CallbackInfo& info, size_t first);

// Creates clsact if it is missing, and attaches the program. This replaces a filter with the same
// handle and priority.
void AttachToTc(int program_fd, const TcPlace& place);

}  // namespace baton
