// The perf buffers of a BPF map: openPerfBuffers of src/host/native.ts.
//
// Each CPU has a buffer. The kernel writes without waiting, and loses records that do not fit. The
// reader polls, so nothing wakes it.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/perf_event.h>

#include <cstring>
#include <memory>
#include <vector>

#include "addon.h"
#include "errors.h"
#include "libbpf_log.h"

namespace baton {

namespace {

constexpr size_t kAlignment = 8;
constexpr uint32_t kNeverWake = 1U << 30;

// PERF_RECORD_SAMPLE with PERF_SAMPLE_RAW alone.
struct RawSample {
  perf_event_header header;
  uint32_t size;
  uint8_t data[];
} __attribute__((packed));

class PerfBuffers : public Napi::ObjectWrap<PerfBuffers> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "PerfBuffers",
                       {InstanceMethod<&PerfBuffers::Drain>("drain"),
                        InstanceMethod<&PerfBuffers::Close>("close")});
  }

  explicit PerfBuffers(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  // The kernel pads records by an unknown length. So each record begins with a head of `head_bytes`
  // bytes, in which the word at `length_at` is the number of bytes that follow the head.
  void Open(int map_fd, uint32_t pages, uint32_t head_bytes, uint32_t length_at) {
    head_bytes_ = head_bytes;
    length_at_ = length_at;
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = PERF_COUNT_SW_BPF_OUTPUT;
    attributes.sample_type = PERF_SAMPLE_RAW;
    attributes.sample_period = 1;
    attributes.watermark = 1;
    attributes.wakeup_watermark = kNeverWake;
    const LibbpfLog log;
    buffers_.reset(
        perf_buffer__new_raw(map_fd, pages, &attributes, &PerfBuffers::OnRecord, this, nullptr));
    if (!buffers_) log.Throw(-errno, "perf_buffer__new_raw", "");
  }

 private:
  struct Closer {
    void operator()(perf_buffer* buffers) const { perf_buffer__free(buffers); }
  };

  static bpf_perf_event_ret OnRecord(void* self, int, perf_event_header* header) {
    // Other records report losses, which the BPF program counts itself.
    if (header->type == PERF_RECORD_SAMPLE) {
      static_cast<PerfBuffers*>(self)->Take(*reinterpret_cast<const RawSample*>(header));
    }
    return LIBBPF_PERF_EVENT_CONT;
  }

  void Take(const RawSample& sample) {
    if (sample.size < head_bytes_) return;
    uint32_t rest = 0;
    std::memcpy(&rest, sample.data + length_at_, sizeof rest);
    if (rest > sample.size - head_bytes_) return;
    waiting_.insert(waiting_.end(), sample.data, sample.data + head_bytes_ + rest);
    waiting_.resize((waiting_.size() + kAlignment - 1) / kAlignment * kAlignment);
  }

  Napi::Value Drain(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!buffers_) throw Napi::Error::New(env, "the perf buffers are closed");
    waiting_.clear();
    Guard(env, [&] {
      const int result = perf_buffer__consume(buffers_.get());
      if (result < 0) throw SystemError{-result, "perf_buffer__consume", ""};
    });
    return Napi::Buffer<uint8_t>::Copy(env, waiting_.data(), waiting_.size());
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    buffers_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<perf_buffer, Closer> buffers_;
  // Filled during a call of Drain. Never larger than all buffers together.
  std::vector<uint8_t> waiting_;
  uint32_t head_bytes_ = 0;
  uint32_t length_at_ = 0;
};

}  // namespace

Napi::Function DefinePerfBuffers(Napi::Env env) {
  return PerfBuffers::Define(env);
}

Napi::Value OpenPerfBuffers(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto fd = static_cast<int>(NumberArgument(info, 0));
  const uint32_t pages = NumberArgument(info, 1);
  const uint32_t head_bytes = NumberArgument(info, 2);
  const uint32_t length_at = NumberArgument(info, 3);
  if (length_at + sizeof(uint32_t) > head_bytes)
    ThrowArgument(env, "the length must lie in the head");
  Napi::Object object = env.GetInstanceData<AddonData>()->perf_buffers.New({});
  Guard(env, [&] { PerfBuffers::Unwrap(object)->Open(fd, pages, head_bytes, length_at); });
  return object;
}

}  // namespace baton
