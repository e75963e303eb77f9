/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The two packets that the shim writes, a notice and a bare segment, and their Internet checksum
 * (RFC 1071). Compiles for BPF and natively.
 */
#ifndef BATON_PACKET_H
#define BATON_PACKET_H

#include "alias.h"
#include "parse.h"
#include "siphash.h"

#define OWN_TTL 64
#define IPV4_DONT_FRAGMENT 0x4000

/* A notice as it goes to the wire. The pad aligns every field. */
struct notice_frame {
	__u8 pad[2];
	struct ethhdr eth;
	struct iphdr ip;
	struct ixcp_hdr ixcp;
} __attribute__((aligned(8)));

#define NOTICE_FRAME_BYTES ((int)(sizeof(struct ethhdr) + sizeof(struct iphdr) + IXCP_LENGTH))
BATON_ASSERT(__builtin_offsetof(struct notice_frame, eth) == 2, "notice_frame.eth");
BATON_ASSERT(__builtin_offsetof(struct notice_frame, ixcp) + IXCP_LENGTH == 2 + 74, "notice_frame");

/* The same to a balancer with an IPv6 address. */
struct notice_frame6 {
	__u8 pad[2];
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct ixcp_hdr ixcp;
} __attribute__((aligned(8)));

#define NOTICE_FRAME_BYTES_6 ((int)(sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + IXCP_LENGTH))
BATON_ASSERT(__builtin_offsetof(struct notice_frame6, eth) == 2, "notice_frame6.eth");
BATON_ASSERT(__builtin_offsetof(struct notice_frame6, ixcp) + IXCP_LENGTH == 2 + 94,
             "notice_frame6");

/* A segment that the shim gives to a socket, without its Ethernet header. */
struct bare_packet {
	struct iphdr ip;
	struct tcphdr tcp;
};

BATON_ASSERT(sizeof(struct bare_packet) == 40, "bare_packet");

/* The same in IPv6. */
struct bare_packet6 {
	struct ipv6hdr ip;
	struct tcphdr tcp;
};

BATON_ASSERT(sizeof(struct bare_packet6) == 60, "bare_packet6");

/* The content of a notice. */
struct notice {
	__u8 type, reason;
	__be32 session;
	__be32 balancer;
	struct session_key tuple;
	__be32 seq, ack;
	__be16 answers;
	__u8 mac[ETH_ALEN];     /* of the balancer */
	__u8 own_mac[ETH_ALEN]; /* of this interface */
};

static __always_inline __u16 checksum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

typedef __u16 __attribute__((may_alias)) checksum_word;

/*
 * Sum of `count` 16-bit words in memory order. The byte order does not matter for the checksum (RFC
 * 1071).
 */
static __always_inline __u32 checksum_add(const void *words, int count, __u32 sum)
{
	const checksum_word *at = words;

#ifdef __clang__
#pragma unroll
#endif
	for (int i = 0; i < count; i++)
		sum += at[i];
	return sum;
}

/* Updates a checksum after one word changed (RFC 1624, equation 3). A wrong checksum stays wrong.
 */
static __always_inline __u16 checksum_replace(__u16 check, __u16 old_word, __u16 new_word)
{
	return checksum_fold((__u32)(__u16)~check + (__u16)~old_word + new_word);
}

static __always_inline void fill_ipv4(struct iphdr *ip, __be32 source, __be32 destination,
                                      __u8 protocol, __u16 total)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = BE16(total);
	ip->frag_off = BE16(IPV4_DONT_FRAGMENT);
	ip->ttl = OWN_TTL;
	ip->protocol = protocol;
	ip->saddr = source;
	ip->daddr = destination;
	ip->check = checksum_fold(checksum_add(ip, sizeof(*ip) / 2, 0));
}

static __always_inline void fill_ipv6(struct ipv6hdr *ip, const struct in6_addr *source,
                                      const struct in6_addr *destination, __u8 protocol,
                                      __u16 payload)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 6;
	ip->payload_len = BE16(payload);
	ip->nexthdr = protocol;
	ip->hop_limit = OWN_TTL;
	ip->saddr = *source;
	ip->daddr = *destination;
}

static __always_inline void fill_eth(struct ethhdr *eth, const struct notice *notice,
                                     __u16 protocol)
{
	__builtin_memcpy(eth->h_dest, notice->mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, notice->own_mac, ETH_ALEN);
	eth->h_proto = BE16(protocol);
}

/* `own`: the number of this machine's address. */
static __always_inline void fill_ixcp(struct ixcp_hdr *ixcp, const struct notice *notice,
                                      const struct shim_config *config, __be32 own)
{
	ixcp->version = BATON_VERSION;
	ixcp->type = notice->type;
	ixcp->length = IXCP_LENGTH;
	ixcp->reason = notice->reason;
	ixcp->session = notice->session;
	ixcp->client = notice->tuple.client;
	ixcp->virtual_addr = notice->tuple.virtual_addr;
	ixcp->hole = 0;
	ixcp->answers = notice->answers;
	ixcp->client_port = notice->tuple.client_port;
	ixcp->virtual_port = notice->tuple.virtual_port;
	ixcp->seq = notice->seq;
	ixcp->ack = notice->ack;
	ixcp->tag = ixcp_tag(config->key, own, notice->balancer, ixcp);
}

static __always_inline void fill_notice(struct notice_frame *frame, const struct notice *notice,
                                        const struct shim_config *config)
{
	fill_eth(&frame->eth, notice, ETH_P_IP);
	fill_ipv4(&frame->ip, config->own, notice->balancer, BATON_IPPROTO_IXCP,
	          IPV4_BYTES + IXCP_LENGTH);
	fill_ixcp(&frame->ixcp, notice, config, config->own);
}

static __always_inline void fill_notice6(struct notice_frame6 *frame, const struct notice *notice,
                                         const struct shim_config *config,
                                         const struct shim_balancer *to)
{
	const struct in6_addr *own = (const void *)config->own6;

	fill_eth(&frame->eth, notice, ETH_P_IPV6);
	fill_ipv6(&frame->ip, own, (const void *)to->address6, BATON_IPPROTO_IXCP, IXCP_LENGTH);
	fill_ixcp(&frame->ixcp, notice, config, alias_of(own, config->alias));
}

static __always_inline void fill_tcp(struct tcphdr *tcp, const struct session_key *tuple, __u32 seq,
                                     __u32 ack, __u8 flags, __u16 window)
{
	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->source = tuple->client_port;
	tcp->dest = tuple->virtual_port;
	tcp->seq = BE32(seq);
	tcp->ack_seq = BE32(ack);
	tcp->window = BE16(window);
	tcp->doff = 5;
	((__u8 *)tcp)[TCP_FLAG_BYTE] = flags;
}

/*
 * Fills a segment from the client of `tuple` with these flags (TCP_*) and numbers (host byte
 * order), and nothing else. With a window of 0 the socket would not send its FIN.
 */
static __always_inline void fill_bare(struct bare_packet *packet, const struct session_key *tuple,
                                      __u32 seq, __u32 ack, __u8 flags, __u16 window)
{
	struct tcphdr *tcp = &packet->tcp;

	fill_ipv4(&packet->ip, tuple->client, tuple->virtual_addr, IPPROTO_TCP, sizeof(*packet));
	fill_tcp(tcp, tuple, seq, ack, flags, window);

	/* RFC 9293 section 3.1: the pseudo-header has addresses, protocol and length. */
	const char *addresses = (const char *)&packet->ip + __builtin_offsetof(struct iphdr, saddr);
	__u32 sum = checksum_add(addresses, 4, BE16(IPPROTO_TCP) + BE16(sizeof(*tcp)));

	tcp->check = checksum_fold(checksum_add(tcp, sizeof(*tcp) / 2, sum));
}

/* The same from one IPv6 address to another; of `tuple` only the ports count. */
static __always_inline void fill_bare6(struct bare_packet6 *packet, const struct in6_addr *client,
                                       const struct in6_addr *virtual_addr,
                                       const struct session_key *tuple, __u32 seq, __u32 ack,
                                       __u8 flags, __u16 window)
{
	struct tcphdr *tcp = &packet->tcp;

	fill_ipv6(&packet->ip, client, virtual_addr, IPPROTO_TCP, sizeof(*tcp));
	fill_tcp(tcp, tuple, seq, ack, flags, window);

	/* RFC 8200 section 8.1 */
	const char *addresses =
		(const char *)&packet->ip + __builtin_offsetof(struct ipv6hdr, saddr);
	__u32 sum = checksum_add(addresses, 16, BE16(IPPROTO_TCP) + BE16(sizeof(*tcp)));

	tcp->check = checksum_fold(checksum_add(tcp, sizeof(*tcp) / 2, sum));
}

#endif
