// Memory that is shared with the kernel or another thread, and the ArrayBuffer over it.
#pragma once

#include <napi.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace baton {

// Mapped pages. They stay valid after the descriptor is closed. The last owner of the object unmaps
// them, so an ArrayBuffer never outlives its memory. An owner that has detached the ArrayBuffer may
// unmap them earlier.
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

// An ArrayBuffer over a mapping. The object that opened it detaches it.
class MappedMemory {
 public:
  MappedMemory() = default;
  // The ArrayBuffer is over the first `bytes` of the mapping.
  MappedMemory(Napi::Env env, std::shared_ptr<Mapping> mapping, size_t bytes);
  Napi::ArrayBuffer Value() const { return buffer_.Value(); }
  bool open() const { return mapping_ != nullptr; }
  // Detaches and unmaps. If the memory was transferred to another thread, it stays mapped until
  // that thread releases it.
  void Close();

 private:
  std::shared_ptr<Mapping> mapping_;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

}  // namespace baton
