// The peer of a veth interface: peerRunsXdp of src/host/native-xdp.ts.
#include <linux/if_link.h>

#include "addon.h"
#include "netlink.h"

namespace baton {

namespace {

struct Link {
  int peer = 0;
  // If true, the peer is in the namespace with this id, as our namespace numbers it. Otherwise it
  // is in our namespace.
  bool elsewhere = false;
  int namespace_id = 0;
  uint8_t xdp = XDP_ATTACHED_NONE;
};

template <typename Value>
bool ReadValue(const rtattr* attribute, Value& into) {
  if (attribute == nullptr || RTA_PAYLOAD(attribute) < sizeof into) return false;
  std::memcpy(&into, RTA_DATA(attribute), sizeof into);
  return true;
}

Link ReadLink(const nlmsghdr& message) {
  Link link;
  const auto* fixed = static_cast<const ifinfomsg*>(NLMSG_DATA(&message));
  const auto* first = IFLA_RTA(fixed);
  const int length = static_cast<int>(IFLA_PAYLOAD(&message));
  ReadValue(FindAttribute(first, length, IFLA_LINK), link.peer);
  link.elsewhere = ReadValue(FindAttribute(first, length, IFLA_LINK_NETNSID), link.namespace_id);
  if (const rtattr* xdp = FindAttribute(first, length, IFLA_XDP)) {
    const auto* nested = static_cast<const rtattr*>(RTA_DATA(xdp));
    ReadValue(FindAttribute(nested, static_cast<int>(RTA_PAYLOAD(xdp)), IFLA_XDP_ATTACHED),
              link.xdp);
  }
  return link;
}

Link AskFor(int index, const Link* seen_from) {
  ifinfomsg fixed{};
  fixed.ifi_family = AF_UNSPEC;
  fixed.ifi_index = index;
  NetlinkRequest<ifinfomsg> request(RTM_GETLINK, 0, fixed);
  if (seen_from != nullptr && seen_from->elsewhere) {
    request.Add(IFLA_TARGET_NETNSID, &seen_from->namespace_id, sizeof seen_from->namespace_id);
  }
  Link link;
  Netlink().Ask(request.Finish(), "RTM_GETLINK", [&](const nlmsghdr& message) {
    if (message.nlmsg_type == RTM_NEWLINK) link = ReadLink(message);
  });
  return link;
}

}  // namespace

Napi::Value PeerRunsXdp(const Napi::CallbackInfo& info) {
  const auto index = static_cast<int>(NumberArgument(info, 0));
  const bool runs = Guard(info.Env(), [&] {
    const Link own = AskFor(index, nullptr);
    if (own.peer == 0) return false;
    const uint8_t attached = AskFor(own.peer, &own).xdp;
    return attached == XDP_ATTACHED_DRV || attached == XDP_ATTACHED_MULTI;
  });
  return Napi::Boolean::New(info.Env(), runs);
}

}  // namespace baton
