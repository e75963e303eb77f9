// How the kernel schedules the calling thread: functions of src/host/native.ts.
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "addon.h"

namespace baton {

namespace {

// struct sched_attr of linux/sched/types.h, as far as it existed in Linux 3.14. A C library may or
// may not declare it.
struct Attributes {
  uint32_t size = sizeof(Attributes);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  // The slice of a normal or batch thread, ns; 0: the kernel's own. Ignored before Linux 6.12.
  uint64_t runtime = 0;
  uint64_t deadline = 0;
  uint64_t period = 0;
};
static_assert(sizeof(Attributes) == 48, "SCHED_ATTR_SIZE_VER0");

// What `EndPrompt` restores.
thread_local Attributes usual;
thread_local bool is_prompt = false;

bool Set(Attributes attributes) { return ::syscall(SYS_sched_setattr, 0, &attributes, 0) == 0; }

}  // namespace

Napi::Value ScheduleInBatches(const Napi::CallbackInfo& info) {
  const sched_param none{};
  return Napi::Boolean::New(info.Env(), ::sched_setscheduler(0, SCHED_BATCH, &none) == 0);
}

Napi::Value BeginPrompt(const Napi::CallbackInfo& info) {
  if (!is_prompt) {
    Attributes prompt;
    prompt.policy = SCHED_OTHER;
    prompt.nice = info[0].As<Napi::Number>().Int32Value();
    prompt.runtime = static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value());
    is_prompt = ::syscall(SYS_sched_getattr, 0, &usual, sizeof(usual), 0) == 0 && Set(prompt);
  }
  return Napi::Boolean::New(info.Env(), is_prompt);
}

Napi::Value EndPrompt(const Napi::CallbackInfo& info) {
  if (is_prompt) Set(usual);
  is_prompt = false;
  return info.Env().Undefined();
}

}  // namespace baton
