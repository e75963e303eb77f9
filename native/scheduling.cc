// The scheduling policy of the calling thread: scheduleInBatches of src/host/native.ts.
#include <sched.h>

#include "addon.h"

namespace baton {

Napi::Value ScheduleInBatches(const Napi::CallbackInfo& info) {
  const sched_param none{};
  return Napi::Boolean::New(info.Env(), ::sched_setscheduler(0, SCHED_BATCH, &none) == 0);
}

}  // namespace baton
