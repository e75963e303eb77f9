// Pages shared with the kernel or with another thread, and the ArrayBuffer over them.
#pragma once

#include <napi.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace baton {

// They keep what they map alive even after its descriptor is closed. Unmapped when the last holder
// lets go, so that an ArrayBuffer over them can never outlive them; or earlier, by one that knows
// that the ArrayBuffer is detached.
class Mapping {
 public:
  Mapping(int fd, size_t bytes, uint64_t offset = 0, int protection = PROT_READ | PROT_WRITE);
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();
  void Unmap();
  uint8_t* base() const { return base_; }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* base_;
  size_t bytes_;
};

// A mapping as JavaScript has it: an ArrayBuffer, to be detached by whoever opened it.
class MappedMemory {
 public:
  MappedMemory() = default;
  // The ArrayBuffer is over the first `bytes` of the mapping.
  MappedMemory(Napi::Env env, std::shared_ptr<Mapping> mapping, size_t bytes);
  Napi::ArrayBuffer Value() const { return buffer_.Value(); }
  bool open() const { return mapping_ != nullptr; }
  // Detaches and unmaps. Should someone have moved the memory to another thread, it stays mapped
  // until that lets go.
  void Close();

 private:
  std::shared_ptr<Mapping> mapping_;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

}  // namespace baton
