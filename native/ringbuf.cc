// BPF ring buffers of workers: fillRings and openRecordRing of src/host/native.ts.
//
// The first page of a ring buffer holds the reader's position, the second page the writer's. The
// data begin at the third page and are mapped twice in a row, so that every record is contiguous.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "addon.h"
#include "errors.h"
#include "map.h"

namespace baton {

namespace {

constexpr uint64_t kRecordHeaderBytes = BPF_RINGBUF_HDR_SZ;
constexpr uint64_t kRecordAlignment = 8;

size_t PageBytes() {
  return static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

// Opens the ring buffer `fd`, or the ring buffer in element `index` of the array `fd`.
Fd OpenRing(int fd, uint32_t index) {
  const BpfMap map = DescribeMap(fd);
  if (map.type == BPF_MAP_TYPE_RINGBUF) {
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) ThrowSystem("fcntl");
    return Fd(copy);
  }
  uint32_t id = 0;
  if (map.type != BPF_MAP_TYPE_ARRAY_OF_MAPS) {
    throw SystemError{EINVAL, "openRecordRing",
                      "map " + map.name + " is neither a ring buffer nor an array of them"};
  }
  if (bpf_map_lookup_elem(fd, &index, &id) != 0) ThrowSystem("bpf_map_lookup_elem", map.name);
  return Fd(MapFdById(id));
}

class RecordRing : public Napi::ObjectWrap<RecordRing> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, "RecordRing",
        {InstanceMethod<&RecordRing::Drain>("drain"), InstanceMethod<&RecordRing::Close>("close")});
  }

  explicit RecordRing(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

  void Open(int fd, uint32_t worker, uint32_t record_words) {
    const Fd ring = OpenRing(fd, worker);
    const BpfMap map = DescribeMap(ring.get());
    const size_t page = PageBytes();
    reader_ = std::make_unique<Mapping>(ring.get(), page);
    writer_ = std::make_unique<Mapping>(ring.get(), page + 2 * static_cast<size_t>(map.max_entries),
                                        page, PROT_READ);
    data_ = writer_->base() + page;
    mask_ = map.max_entries - 1;
    record_bytes_ = record_words * sizeof(uint32_t);
    Value().Set("recordWords", record_words);
  }

 private:
  Napi::Value Drain(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    napi_typedarray_type type;
    size_t length = 0;
    void* into = nullptr;
    if (napi_get_typedarray_info(env, info[0], &type, &length, &into, nullptr, nullptr) !=
            napi_ok ||
        type != napi_uint32_array) {
      ThrowArgument(env, "records must be a Uint32Array");
    }
    if (!reader_) throw Napi::Error::New(env, "the ring is closed");
    return Napi::Number::New(
        env, Take(static_cast<uint8_t*>(into), length * sizeof(uint32_t) / record_bytes_));
  }

  uint32_t Take(uint8_t* into, size_t capacity) {
    auto* const reader = reinterpret_cast<uint64_t*>(reader_->base());
    const auto* const writer = reinterpret_cast<const uint64_t*>(writer_->base());
    const uint64_t end = __atomic_load_n(writer, __ATOMIC_ACQUIRE);
    uint64_t at = *reader;
    uint32_t count = 0;
    while (at < end && count < capacity) {
      const uint8_t* record = data_ + (at & mask_);
      const uint32_t header =
          __atomic_load_n(reinterpret_cast<const uint32_t*>(record), __ATOMIC_ACQUIRE);
      if ((header & BPF_RINGBUF_BUSY_BIT) != 0) break;
      const uint32_t bytes = header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
      if ((header & BPF_RINGBUF_DISCARD_BIT) == 0 && bytes == record_bytes_) {
        std::memcpy(into + count * record_bytes_, record + kRecordHeaderBytes, record_bytes_);
        count++;
      }
      at +=
          (bytes + kRecordHeaderBytes + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment;
    }
    __atomic_store_n(reader, at, __ATOMIC_RELEASE);
    return count;
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    reader_.reset();
    writer_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<Mapping> reader_;
  std::unique_ptr<Mapping> writer_;
  const uint8_t* data_ = nullptr;
  uint64_t mask_ = 0;
  uint32_t record_bytes_ = 0;
};

}  // namespace

Napi::Function DefineRecordRing(Napi::Env env) {
  return RecordRing::Define(env);
}

Napi::Value OpenRecordRing(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto fd = static_cast<int>(NumberArgument(info, 0));
  const uint32_t worker = NumberArgument(info, 1);
  const uint32_t record_words = NumberArgument(info, 2);
  if (record_words == 0) ThrowArgument(env, "a record must have at least one word");
  Napi::Object object = env.GetInstanceData<AddonData>()->record_ring.New({});
  Guard(env, [&] { RecordRing::Unwrap(object)->Open(fd, worker, record_words); });
  return object;
}

Napi::Value FillRings(const Napi::CallbackInfo& info) {
  const auto array_fd = static_cast<int>(NumberArgument(info, 0));
  const uint32_t count = NumberArgument(info, 1);
  const uint32_t bytes = NumberArgument(info, 2);
  Guard(info.Env(), [&] {
    for (uint32_t i = 0; i < count; i++) {
      const Fd ring(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "worker_ring", 0, 0, bytes, nullptr));
      if (!ring.valid())
        ThrowSystem("bpf_map_create", "a ring buffer of " + std::to_string(bytes) + " bytes");
      const int fd = ring.get();
      if (bpf_map_update_elem(array_fd, &i, &fd, BPF_ANY) != 0) ThrowSystem("bpf_map_update_elem");
    }
  });
  return info.Env().Undefined();
}

}  // namespace baton
