// Packet sockets, for the packet ring and the XDP ring.
#pragma once

#include <linux/if_packet.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>

#include "errors.h"

namespace baton {

// Most bytes on their way to the device: more than any ring holds.
constexpr int kSendBufferBytes = 256 << 20;

inline Fd OpenPacketSocket() {
  // With protocol 0, the socket receives nothing before bind(), when the filter is in place. A
  // socket that is not bound never receives anything.
  const int fd = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) ThrowSystem("socket", "AF_PACKET");
  return Fd(fd);
}

template <typename Value>
void SetOption(const Fd& fd, int level, int option, const Value& value, const char* name) {
  if (::setsockopt(fd.get(), level, option, &value, sizeof value) != 0)
    ThrowSystem("setsockopt", name);
}

// Sends through an interface on a socket that is not bound. Returns 0, or an errno.
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
