// rtnetlink: requests, dumps and attributes, for interfaces, neighbours and tc filters.
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "address.h"
#include "errors.h"

namespace baton {

// A request: a netlink header, a fixed part, and attributes.
template <typename Fixed>
class NetlinkRequest {
 public:
  NetlinkRequest(uint16_t type, uint16_t flags, const Fixed& fixed)
      : bytes_(NLMSG_SPACE(sizeof(Fixed))) {
    header()->nlmsg_type = type;
    header()->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    std::memcpy(NLMSG_DATA(header()), &fixed, sizeof fixed);
  }

  void Add(uint16_t type, const void* value, size_t length) {
    const size_t at = bytes_.size();
    bytes_.resize(at + RTA_SPACE(length));
    auto* attribute = reinterpret_cast<rtattr*>(bytes_.data() + at);
    attribute->rta_type = type;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(length));
    std::memcpy(RTA_DATA(attribute), value, length);
  }

  nlmsghdr* Finish() {
    header()->nlmsg_len = static_cast<uint32_t>(bytes_.size());
    return header();
  }

 private:
  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes_.data()); }
  std::vector<uint8_t> bytes_;
};

// The attribute of this type in a list, or nullptr.
const rtattr* FindAttribute(const rtattr* first, int length, uint16_t type);

class Netlink {
 public:
  using Visit = std::function<void(const nlmsghdr&)>;

  Netlink();
  // Sends a request and visits every message of the answer, up to the acknowledgement or the end of
  // a dump. If the table changes during a dump, the dump starts again: `restart` discards the
  // visited messages.
  void Ask(nlmsghdr* request, const char* name, const Visit& visit,
           const std::function<void()>& restart = {});

 private:
  bool Once(nlmsghdr* request, const char* name, const Visit& visit);
  Fd socket_;
  uint32_t sequence_ = 0;
};

struct InterfaceAddress {
  uint32_t interface_index;
  IpAddress address;
  uint8_t prefix;
  std::string label;
};

// Every address of this family of every interface; AF_UNSPEC: of both families. An IPv6 address
// that changes with time (RFC 8981), or that belongs to the link alone, is left out.
std::vector<InterfaceAddress> ReadAddresses(uint8_t family);

// Reads the address in an attribute. False if it holds none of this family.
bool ReadIpAddress(const rtattr* attribute, uint8_t family, IpAddress& into);

}  // namespace baton
