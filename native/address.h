// Addresses as src/wire/address.ts has them: an IPv4 address is a number, an IPv6 address a BigInt.
#pragma once

#include <arpa/inet.h>
#include <napi.h>
#include <netinet/in.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace baton {

struct IpAddress {
  int family = AF_INET;
  // In network byte order; the first four of IPv4.
  uint8_t bytes[16] = {};

  size_t size() const { return family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr); }
};

inline Napi::Value ToValue(Napi::Env env, const IpAddress& from) {
  if (from.family == AF_INET) {
    uint32_t number;
    std::memcpy(&number, from.bytes, sizeof number);
    return Napi::Number::New(env, ntohl(number));
  }
  // The lower word comes first.
  uint64_t words[2] = {};
  for (size_t i = 0; i < sizeof from.bytes; i++) {
    uint64_t& word = words[i < 8 ? 1 : 0];
    word = word << 8 | from.bytes[i];
  }
  return Napi::BigInt::New(env, 0, 2, words);
}

// The address in argument `index`; throws if it is something else.
inline IpAddress AddressArgument(const Napi::CallbackInfo& info, size_t index) {
  IpAddress result;
  if (info[index].IsNumber()) {
    const uint32_t number = htonl(info[index].As<Napi::Number>().Uint32Value());
    std::memcpy(result.bytes, &number, sizeof number);
    return result;
  }
  if (!info[index].IsBigInt())
    throw Napi::TypeError::New(info.Env(), "an address is expected: a number or a BigInt");
  int sign = 0;
  size_t count = 2;
  uint64_t words[2] = {};
  info[index].As<Napi::BigInt>().ToWords(&sign, &count, words);
  result.family = AF_INET6;
  for (size_t i = 0; i < sizeof result.bytes; i++)
    result.bytes[i] = static_cast<uint8_t>(words[i < 8 ? 1 : 0] >> (56 - i % 8 * 8));
  return result;
}

inline std::string ToText(const IpAddress& address) {
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(address.family, address.bytes, text, sizeof text);
  return text;
}

}  // namespace baton
