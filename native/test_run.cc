// Test runs of BPF programs: testRun and testRunXdp of src/host/native.ts.
#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <algorithm>

#include "addon.h"
#include "bpf.h"
#include "errors.h"
#include "map.h"

namespace baton {

namespace {

// A program adds headers to a frame, which need less room than this.
constexpr size_t kGrowthBytes = 4096;

// The buffers that the kernel reads and writes during one or more runs of a program.
class Run {
 public:
  Run(const Napi::Uint8Array& frame, size_t room) : out_(room) {
    options_.sz = sizeof options_;
    options_.data_in = frame.Data();
    options_.data_size_in = static_cast<uint32_t>(frame.ByteLength());
    if (room != 0) options_.data_out = out_.data();
    options_.data_size_out = static_cast<uint32_t>(room);
  }

  bpf_test_run_opts& options() { return options_; }

  void Start(Napi::Env env, int program_fd) {
    Guard(env, [&] {
      if (bpf_prog_test_run_opts(program_fd, &options_) != 0) ThrowSystem("bpf_prog_test_run_opts");
    });
  }

  Napi::Object Result(Napi::Env env) const {
    Napi::Object result = Napi::Object::New(env);
    // TC_ACT_UNSPEC is -1.
    result.Set("verdict", static_cast<int32_t>(options_.retval));
    result.Set("frame", ToUint8Array(env, out_.data(),
                                     std::min<size_t>(options_.data_size_out, out_.size())));
    return result;
  }

 private:
  Bytes out_;
  bpf_test_run_opts options_{};
};

bool IsGiven(const Napi::Value& options, const char* name) {
  return options.IsObject() && options.As<Napi::Object>().Get(name).IsNumber();
}

uint32_t OptionalNumber(const Napi::Value& options, const char* name) {
  return IsGiven(options, name)
             ? options.As<Napi::Object>().Get(name).As<Napi::Number>().Uint32Value()
             : 0;
}

}  // namespace

Napi::Value TestRunTc(const Napi::CallbackInfo& info, int program_fd) {
  const Napi::Uint8Array frame = BytesArgument(info, 1);
  __sk_buff context{};
  context.mark = OptionalNumber(info[2], "mark");
  context.ingress_ifindex = OptionalNumber(info[2], "ingressIndex");
  context.ifindex = OptionalNumber(info[2], "interfaceIndex");
  __sk_buff context_out{};
  Run run(frame, frame.ByteLength() + kGrowthBytes);
  run.options().ctx_in = &context;
  run.options().ctx_size_in = sizeof context;
  run.options().ctx_out = &context_out;
  run.options().ctx_size_out = sizeof context_out;
  run.Start(info.Env(), program_fd);
  Napi::Object result = run.Result(info.Env());
  result.Set("mark", context_out.mark);
  return result;
}

Napi::Value TestRunXdp(const Napi::CallbackInfo& info, int program_fd) {
  const Napi::Uint8Array frame = BytesArgument(info, 1);
  const bool live = info[2].IsObject() && info[2].As<Napi::Object>().Get("live").ToBoolean();
  xdp_md context{};
  context.data_end = static_cast<uint32_t>(frame.ByteLength());
  context.ingress_ifindex = OptionalNumber(info[2], "ingressIndex");
  context.rx_queue_index = OptionalNumber(info[2], "queue");
  // The kernel refuses an output buffer for live frames.
  Run run(frame, live ? 0 : frame.ByteLength() + kGrowthBytes);
  // Kernels before 5.15 refuse a context.
  if (IsGiven(info[2], "ingressIndex")) {
    run.options().ctx_in = &context;
    run.options().ctx_size_in = sizeof context;
  }
  if (live) run.options().flags = BPF_F_TEST_XDP_LIVE_FRAMES;
  if (IsGiven(info[2], "repeat")) {
    run.options().repeat = static_cast<int>(OptionalNumber(info[2], "repeat"));
  }
  run.Start(info.Env(), program_fd);
  Napi::Object result = run.Result(info.Env());
  result.Set("nanoseconds", run.options().duration);
  return result;
}

}  // namespace baton
