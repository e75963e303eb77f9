#include "mapping.h"

#include <utility>

#include "errors.h"

namespace baton {

Mapping::Mapping(int fd, size_t bytes, uint64_t offset, int protection) : bytes_(bytes) {
  void* base = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (base == MAP_FAILED) ThrowSystem("mmap");
  base_ = static_cast<uint8_t*>(base);
}

Mapping::~Mapping() {
  Unmap();
}

void Mapping::Unmap() {
  if (base_ != nullptr) ::munmap(base_, bytes_);
  base_ = nullptr;
}

MappedMemory::MappedMemory(Napi::Env env, std::shared_ptr<Mapping> mapping, size_t bytes)
    : mapping_(std::move(mapping)) {
  // The ArrayBuffer has a reference of its own to the mapping.
  auto* reference = new std::shared_ptr<Mapping>(mapping_);
  Napi::ArrayBuffer memory = Napi::ArrayBuffer::New(
      env, mapping_->base(), bytes,
      [](Napi::Env, void*, std::shared_ptr<Mapping>* owned) { delete owned; }, reference);
  buffer_ = Napi::Persistent(memory);
}

void MappedMemory::Close() {
  if (!open()) return;
  Napi::ArrayBuffer memory = buffer_.Value();
  if (!memory.IsDetached()) {
    memory.Detach();
    mapping_->Unmap();
  }
  buffer_.Reset();
  mapping_.reset();
}

}  // namespace baton
