// Frame descriptors, with the layout of src/host/native.ts and src/datapath/datapath.ts.
#pragma once

#include <napi.h>

#include <cstdint>
#include <utility>

#include "errors.h"

namespace baton {

// A frame descriptor. `slot` is kOutsideRing or any other value (the next slot) in a packet ring,
// and the queue in an XDP ring.
struct Descriptor {
  uint32_t offset;  // of the MAC header in the mapping
  uint32_t length;
  uint32_t flags;
  uint32_t slot;
};
static_assert(sizeof(Descriptor) == 4 * sizeof(uint32_t), "as in src/host/native.ts");

// Bits of Descriptor::flags (FrameFlags in src/datapath/datapath.ts).
enum FrameFlag : uint32_t {
  kChecksumPartial = 1,
  kChecksumValid = 2,
  kSegmented = 4,
  kTruncated = 8,
  kQueued = 16,
};

// Descriptor::slot of a frame that is sent with sendmsg (OUTSIDE_RING in src/host/native.ts).
constexpr uint32_t kOutsideRing = 0xffffffff;

// The descriptors in argument 0, and the number that fits there.
inline std::pair<Descriptor*, uint32_t> DescriptorsArgument(const Napi::CallbackInfo& info) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(info.Env(), info[0], &type, &length, &data, nullptr, nullptr) !=
          napi_ok ||
      type != napi_uint32_array) {
    ThrowArgument(info.Env(), "descriptors must be a Uint32Array");
  }
  constexpr size_t words = sizeof(Descriptor) / sizeof(uint32_t);
  return {static_cast<Descriptor*>(data), static_cast<uint32_t>(length / words)};
}

// Statistics of either ring, for stats().
struct RingStats {
  uint64_t received = 0;
  uint64_t lost = 0;
  uint64_t sent = 0;
  uint64_t failed = 0;
  uint64_t outside = 0;  // of those sent: with sendmsg instead of the ring
  uint64_t starved = 0;  // how often no memory was free to receive a frame
};

// Fills the Float64Array of 6 in argument 0, and returns it.
inline Napi::Value FillStats(const Napi::CallbackInfo& info, const RingStats& stats) {
  if (!info[0].IsTypedArray() ||
      info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array ||
      info[0].As<Napi::TypedArray>().ElementLength() < 6) {
    ThrowArgument(info.Env(), "a Float64Array of 6 is expected");
  }
  double* const into = info[0].As<Napi::Float64Array>().Data();
  into[0] = static_cast<double>(stats.received);
  into[1] = static_cast<double>(stats.lost);
  into[2] = static_cast<double>(stats.sent);
  into[3] = static_cast<double>(stats.failed);
  into[4] = static_cast<double>(stats.outside);
  into[5] = static_cast<double>(stats.starved);
  return info[0];
}

// Option `name`, a number.
inline uint32_t NumberOption(const Napi::Object& options, const char* name) {
  const Napi::Value value = options.Get(name);
  if (!value.IsNumber()) ThrowArgument(options.Env(), std::string(name) + " must be a number");
  return value.As<Napi::Number>().Uint32Value();
}

}  // namespace baton
