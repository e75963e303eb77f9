// Packet sockets: what the packet ring and the XDP ring both need of them.
#pragma once

#include <linux/if_packet.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>

#include "errors.h"

namespace baton {

// Bytes that may be under way to the device: more than any ring holds.
constexpr int kSendBufferBytes = 256 << 20;

inline Fd OpenPacketSocket() {
  // Protocol 0: nothing is received before bind(), when the filter is in place; and never, by
  // sockets that are not bound.
  const int fd = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) ThrowSystem("socket", "AF_PACKET");
  return Fd(fd);
}

template <typename Value>
void SetOption(const Fd& fd, int level, int option, const Value& value, const char* name) {
  if (::setsockopt(fd.get(), level, option, &value, sizeof value) != 0)
    ThrowSystem("setsockopt", name);
}

// 0, or the errno of a send on a socket that is not bound.
inline int SendTo(const Fd& fd, uint32_t interface_index, uint16_t ether_type_be, iovec* parts,
                  size_t count) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = ether_type_be;
  address.sll_ifindex = static_cast<int>(interface_index);
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = sizeof address;
  message.msg_iov = parts;
  message.msg_iovlen = count;
  return ::sendmsg(fd.get(), &message, MSG_DONTWAIT) < 0 ? errno : 0;
}

}  // namespace baton
