// What goes with BPF objects.
#pragma once

#include <napi.h>

namespace baton {

// Before Linux 5.11 the kernel counts maps and programs as locked memory, and so it does the frames
// of AF_XDP sockets. Takes the limit of this process off; false if that is not allowed.
bool RaiseLockedMemory();

// BPF_PROG_TEST_RUN with the frame in argument 1 and the options in argument 2: testRun and
// testRunXdp of src/host/native.ts.
Napi::Value TestRunTc(const Napi::CallbackInfo& info, int program_fd);
Napi::Value TestRunXdp(const Napi::CallbackInfo& info, int program_fd);

}  // namespace baton
