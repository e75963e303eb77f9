// Functions that BPF objects and AF_XDP sockets share.
#pragma once

#include <napi.h>

namespace baton {

// Removes this process's limit of locked memory. Before Linux 5.11 the kernel counts maps and
// programs as locked memory, and it counts the frames of AF_XDP sockets. False if that is not
// allowed.
bool RaiseLockedMemory();

// BPF_PROG_TEST_RUN with the frame in argument 1 and the options in argument 2: testRun and
// testRunXdp of src/host/native.ts.
Napi::Value TestRunTc(const Napi::CallbackInfo& info, int program_fd);
Napi::Value TestRunXdp(const Napi::CallbackInfo& info, int program_fd);

}  // namespace baton
