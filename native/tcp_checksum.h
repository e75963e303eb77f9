// Finishes TCP checksums that the sender left to hardware.
#pragma once

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <netinet/in.h>
#include <netinet/ip6.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace baton {

// Not from linux/tcp.h, which conflicts with the C library's header of that name.
constexpr uint32_t kTcpHeaderBytes = 20;
constexpr uint32_t kTcpChecksumAt = 16;

inline uint16_t FoldChecksum(uint64_t sum) {
  while ((sum >> 16) != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// One's complement sum of 16-bit words in memory order (RFC 1071 section 2: the byte order does not
// matter). An odd last byte is padded with zero.
inline uint64_t SumBytes(const uint8_t* bytes, size_t length) {
  uint64_t sum = 0;
  for (; length >= 4; bytes += 4, length -= 4) {
    uint32_t word;
    std::memcpy(&word, bytes, sizeof word);
    sum += word;
  }
  uint32_t rest = 0;
  std::memcpy(&rest, bytes, length);
  return sum + rest;
}

// A TCP segment in an Ethernet frame. `tcp` is nullptr if the frame is no whole TCP segment.
struct TcpSegment {
  uint8_t* tcp = nullptr;
  uint32_t length = 0;
  // Folded sum of the pseudo-header (RFC 9293 section 3.1).
  uint16_t pseudo_sum = 0;

  TcpSegment(uint8_t* frame, uint32_t frame_length) {
    if (frame_length < sizeof(ethhdr) + sizeof(iphdr)) return;
    uint16_t type;
    std::memcpy(&type, frame + offsetof(ethhdr, h_proto), sizeof type);
    if (type == htons(ETH_P_IPV6)) {
      ReadIpv6(frame, frame_length);
      return;
    }
    iphdr ip;
    std::memcpy(&ip, frame + sizeof(ethhdr), sizeof ip);
    const uint32_t header_bytes = static_cast<uint32_t>(ip.ihl) * 4;
    const uint32_t total = ntohs(ip.tot_len);
    constexpr uint16_t kFragment = 0x3fff;
    if (type != htons(ETH_P_IP) || ip.version != 4 || header_bytes < sizeof ip ||
        ip.protocol != IPPROTO_TCP || (ntohs(ip.frag_off) & kFragment) != 0 ||
        total < header_bytes + kTcpHeaderBytes || total + sizeof(ethhdr) > frame_length) {
      return;
    }
    tcp = frame + sizeof(ethhdr) + header_bytes;
    length = total - header_bytes;
    pseudo_sum = FoldChecksum(static_cast<uint64_t>(ip.saddr) + ip.daddr + htons(IPPROTO_TCP) +
                              htons(static_cast<uint16_t>(length)));
  }

  // Without extension headers (RFC 8200 section 8.1).
  void ReadIpv6(uint8_t* frame, uint32_t frame_length) {
    if (frame_length < sizeof(ethhdr) + sizeof(ip6_hdr)) return;
    ip6_hdr ip;
    std::memcpy(&ip, frame + sizeof(ethhdr), sizeof ip);
    const uint32_t bytes = ntohs(ip.ip6_plen);
    if (ip.ip6_vfc >> 4 != 6 || ip.ip6_nxt != IPPROTO_TCP || bytes < kTcpHeaderBytes ||
        bytes + sizeof(ethhdr) + sizeof ip > frame_length) {
      return;
    }
    tcp = frame + sizeof(ethhdr) + sizeof ip;
    length = bytes;
    const uint8_t* addresses = frame + sizeof(ethhdr) + offsetof(ip6_hdr, ip6_src);
    pseudo_sum = FoldChecksum(SumBytes(addresses, sizeof ip.ip6_src + sizeof ip.ip6_dst) +
                              htons(IPPROTO_TCP) + ip.ip6_plen);
  }

  uint16_t checksum() const {
    uint16_t field;
    std::memcpy(&field, tcp + kTcpChecksumAt, sizeof field);
    return field;
  }
};

// True if the checksum field holds the sum of the pseudo-header, from which hardware would
// continue. One finished checksum in 65536 looks the same; finishing it again does not change it.
inline bool IsChecksumUnfinished(uint8_t* frame, uint32_t length) {
  const TcpSegment segment(frame, length);
  return segment.tcp != nullptr && segment.checksum() == segment.pseudo_sum;
}

inline void FinishChecksum(uint8_t* frame, uint32_t length) {
  const TcpSegment segment(frame, length);
  if (segment.tcp == nullptr) return;
  // This cancels the value of the checksum field, which is not part of the sum.
  const uint64_t sum = SumBytes(segment.tcp, segment.length) + segment.pseudo_sum +
                       static_cast<uint16_t>(~segment.checksum());
  const uint16_t finished = static_cast<uint16_t>(~FoldChecksum(sum));
  std::memcpy(segment.tcp + kTcpChecksumAt, &finished, sizeof finished);
}

}  // namespace baton
