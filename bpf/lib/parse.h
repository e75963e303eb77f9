/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finds the headers of a frame, with one length check for each kind of frame. The programs handle
 * only IPv4 headers without options, so every offset is a constant:
 *
 *     IXP:   Ethernet 0 | IPv4 14 | IXP 34 | TCP 70
 *     TCP:   Ethernet 0 | IPv4 14 | TCP 34
 *
 * A parser may read from `data` to `data_end`. `frame_bytes` is the length of the whole frame, the
 * end of which may lie elsewhere in memory. Compiles for BPF and natively.
 */
#ifndef BATON_PARSE_H
#define BATON_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include "config.h"
#include "counters.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BE16(x) ((__be16)__builtin_bswap16(x))
#define BE32(x) ((__be32)__builtin_bswap32(x))
#else
#define BE16(x) ((__be16)(x))
#define BE32(x) ((__be32)(x))
#endif

/*
 * True if a frame belongs to a VLAN interface on top of this interface: the kernel has removed its
 * VLAN tag. A tag with identifier 0 only carries a priority (IEEE 802.1Q); such a frame belongs to
 * this interface.
 */
static __always_inline int of_another_vlan(__u32 present, __u32 tci)
{
	return present && (tci & 0xfff) != 0;
}

#define IPV4_OFFSET ((int)sizeof(struct ethhdr))
#define IPV4_BYTES ((int)sizeof(struct iphdr))
#define TCP_BYTES ((int)sizeof(struct tcphdr))
#define TCP_OFFSET (IPV4_OFFSET + IPV4_BYTES)
#define TCP_OFFSET_6 (IPV4_OFFSET + IPV6_BYTES)
/* The bytes that the two parsers need in [data, data_end). */
#define IXP_FRAME_BYTES (IPV4_OFFSET + IPV4_BYTES + IXP_LENGTH + TCP_BYTES)
#define TCP_FRAME_BYTES (IPV4_OFFSET + IPV4_BYTES + TCP_BYTES)

/* More-fragments bit and fragment offset: a fragment (RFC 791) has at least one of them set. */
#define IPV4_FRAGMENT_MASK 0x3fff
#define IPV4_OFFSET_MASK 0x1fff

#define IPV6_BYTES ((int)sizeof(struct ipv6hdr))
#define IXP_FRAME_BYTES_6 (IPV4_OFFSET + IPV6_BYTES + IXP_LENGTH + TCP_BYTES)
#define TCP_FRAME_BYTES_6 (IPV4_OFFSET + IPV6_BYTES + TCP_BYTES)

/* RFC 4443. All types of errors are below 5. */
#define ICMPV6_FIRST_ERROR 1
#define ICMPV6_LAST_ERROR 4
#define ICMPV6_ECHO_REQUEST 128

/* True for an extension header. src/wire/ipv6.ts has the rule. */
static __always_inline int is_extension(__u8 next_header)
{
	switch (next_header) {
	case 0:
	case 43:
	case 44:
	case 50:
	case 51:
	case 60:
	case 135:
	case 139:
	case 140:
		return 1;
	default:
		return 0;
	}
}

#define PARSE_OK (-1)

/* The TCP flags are the byte at offset 13. */
#define TCP_FLAG_BYTE 13
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_ECN 0xc0 /* CWR and ECE: RFC 3168 section 6.1.1 */

/* The first bytes of a TCP or UDP header. */
struct ports {
	__be16 source, destination;
};

#define UDP_BYTES 8

/* RFC 792. linux/icmp.h would include headers of the C library. */
#define ICMP_HEADER_BYTES 8
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMP_ECHO_REQUEST 8

struct ixp_view {
	struct ethhdr *eth;
	struct iphdr *ip;
	struct ixp_hdr *ixp;
	struct tcphdr *tcp;
	__u32 payload; /* bytes behind the TCP header */
};

struct tcp_view {
	struct ethhdr *eth;
	/* Both point to the header, as the one and as the other family. A pointer that is NULL for
	 * one of them would confuse the verifier; the check of the length suffices for both. */
	struct iphdr *ip;
	struct ipv6hdr *ip6;
	struct tcphdr *tcp;
	__u32 offset; /* of the TCP header in the frame */
	__u32 ipv6;   /* 1: IPv6 */
};

/* The same for an IPv6 packet. */
struct ixp_view6 {
	struct ethhdr *eth;
	struct ipv6hdr *ip;
	struct ixp_hdr *ixp;
	struct tcphdr *tcp;
	__u32 payload;
};

/* a - b as a signed number. The programs compare sequence numbers only with this. */
static __always_inline int seq_diff(__u32 a, __u32 b)
{
	return (int)(a - b);
}

static __always_inline __u8 tcp_flags(const struct tcphdr *tcp)
{
	return ((const __u8 *)tcp)[TCP_FLAG_BYTE];
}

/* The protocol of an IPv4 packet, or -1. Most frames need no other check. */
static __always_inline int parse_protocol(const void *data, const void *data_end)
{
	const struct iphdr *ip = (const void *)((const char *)data + IPV4_OFFSET);

	if ((const void *)(ip + 1) > data_end)
		return -1;
	return ip->protocol;
}

/*
 * Parses a frame whose protocol is IXP. Returns PARSE_OK, or the counter of the error. With
 * PARSE_OK length and form are right; only the tag proves who sent the frame.
 */
static __always_inline int parse_ixp(void *data, void *data_end, __u32 frame_bytes,
                                     struct ixp_view *view)
{
	if ((char *)data + IXP_FRAME_BYTES > (char *)data_end)
		return SHIM_DROP_TRUNCATED;

	struct iphdr *ip = (void *)((char *)data + IPV4_OFFSET);
	struct ixp_hdr *ixp = (void *)(ip + 1);
	struct tcphdr *tcp = (void *)(ixp + 1);

	if (ip->version != 4 || ip->ihl != 5)
		return SHIM_DROP_IP_OPTIONS;
	if (ip->frag_off & BE16(IPV4_FRAGMENT_MASK))
		return SHIM_DROP_FRAGMENT;
	if (ixp->version != BATON_VERSION)
		return SHIM_DROP_VERSION;

	__u32 total = BE16(ip->tot_len);

	if (ixp->length != IXP_LENGTH || total > frame_bytes - IPV4_OFFSET ||
	    total < (__u32)(IPV4_BYTES + IXP_LENGTH + TCP_BYTES))
		return SHIM_DROP_LENGTH;

	__u32 headers = IPV4_BYTES + IXP_LENGTH + tcp->doff * 4;

	if (tcp->doff < 5 || headers > total)
		return SHIM_DROP_TCP_HEADER;

	view->eth = data;
	view->ip = ip;
	view->ixp = ixp;
	view->tcp = tcp;
	view->payload = total - headers;
	return PARSE_OK;
}

/*
 * Parses a TCP segment in IPv4. Returns PARSE_OK, or another value for fragments, IPv4 options and
 * other protocols, none of which the caller handles.
 */
static __always_inline int parse_tcp(void *data, void *data_end, struct tcp_view *view)
{
	if ((char *)data + TCP_FRAME_BYTES > (char *)data_end)
		return SHIM_DROP_TRUNCATED;

	struct iphdr *ip = (void *)((char *)data + IPV4_OFFSET);
	struct tcphdr *tcp = (void *)(ip + 1);

	if (ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_TCP)
		return SHIM_DROP_IP_OPTIONS;
	if (ip->frag_off & BE16(IPV4_FRAGMENT_MASK))
		return SHIM_DROP_FRAGMENT;

	view->eth = data;
	view->ip = ip;
	view->ip6 = (void *)ip;
	view->ipv6 = 0;
	view->tcp = tcp;
	view->offset = IPV4_OFFSET + IPV4_BYTES;
	return PARSE_OK;
}

/* As parse_ixp, for IPv6. */
static __always_inline int parse_ixp6(void *data, void *data_end, __u32 frame_bytes,
                                      struct ixp_view6 *view)
{
	if ((char *)data + IXP_FRAME_BYTES_6 > (char *)data_end)
		return SHIM_DROP_TRUNCATED;

	struct ipv6hdr *ip = (void *)((char *)data + IPV4_OFFSET);
	struct ixp_hdr *ixp = (void *)(ip + 1);
	struct tcphdr *tcp = (void *)(ixp + 1);

	if (ip->version != 6)
		return SHIM_DROP_IP_OPTIONS;
	if (ixp->version != BATON_VERSION)
		return SHIM_DROP_VERSION;

	__u32 total = BE16(ip->payload_len);

	if (ixp->length != IXP_LENGTH || total > frame_bytes - IPV4_OFFSET - IPV6_BYTES ||
	    total < (__u32)(IXP_LENGTH + TCP_BYTES))
		return SHIM_DROP_LENGTH;

	__u32 headers = IXP_LENGTH + tcp->doff * 4;

	if (tcp->doff < 5 || headers > total)
		return SHIM_DROP_TCP_HEADER;

	view->eth = data;
	view->ip = ip;
	view->ixp = ixp;
	view->tcp = tcp;
	view->payload = total - headers;
	return PARSE_OK;
}

/* As parse_tcp, for IPv6. */
static __always_inline int parse_tcp6(void *data, void *data_end, struct tcp_view *view)
{
	if ((char *)data + TCP_FRAME_BYTES_6 > (char *)data_end)
		return SHIM_DROP_TRUNCATED;

	struct ipv6hdr *ip = (void *)((char *)data + IPV4_OFFSET);

	if (ip->version != 6 || ip->nexthdr != IPPROTO_TCP)
		return SHIM_DROP_IP_OPTIONS;
	view->eth = data;
	view->ip = (void *)ip;
	view->ipv6 = 1;
	view->ip6 = ip;
	view->tcp = (void *)(ip + 1);
	view->offset = IPV4_OFFSET + IPV6_BYTES;
	return PARSE_OK;
}

#endif
