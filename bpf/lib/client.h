/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads a client's segment for the XDP program: lengths, checksums, and the options of a SYN, by
 * the rules of src/engine/segment.ts and src/wire/tcp.ts. Compiles for BPF and natively.
 */
#ifndef BATON_CLIENT_H
#define BATON_CLIENT_H

#include "packet.h"
#include "parse.h"

/* The first byte of an IPv4 header without options. */
#define VERSION_4_WORDS_5 0x45

#define MOST_OPTION_BYTES 40
#define MOST_WINDOW_SHIFT 14 /* RFC 7323 section 2.3 */
#define DEFAULT_MSS 536      /* RFC 9293 section 3.7.1 */

enum tcp_option {
	OPTION_END = 0,
	OPTION_NO_OPERATION = 1,
	OPTION_MSS = 2,
	OPTION_WINDOW_SCALE = 3,
	OPTION_SACK_PERMITTED = 4,
	OPTION_TIMESTAMPS = 8,
};

/* For the verifier: from here on, the compiler must not draw conclusions about `x`. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x))

struct segment {
	struct ethhdr *eth;
	struct iphdr *ip;    /* of IPv4 */
	struct ipv6hdr *ip6; /* of IPv6 */
	struct tcphdr *tcp;
	__u32 total;   /* IP header, TCP header and payload, without Ethernet padding */
	__u32 payload; /* bytes */
	__u32 seq, ack;
	__u8 flags;
};

/*
 * True if [data, data_end) holds a whole segment with right lengths. False for fragments and IPv4
 * options.
 */
static __always_inline int parse_segment(void *data, void *data_end, struct segment *segment)
{
	struct iphdr *ip = (void *)((char *)data + IPV4_OFFSET);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((char *)data + TCP_FRAME_BYTES > (char *)data_end)
		return 0;
	if (*(const __u8 *)ip != VERSION_4_WORDS_5 || ip->frag_off & BE16(IPV4_FRAGMENT_MASK))
		return 0;

	__u32 total = BE16(ip->tot_len);
	__u32 headers = IPV4_BYTES + tcp->doff * 4;

	if (total > (__u32)((char *)data_end - (char *)data) - IPV4_OFFSET || tcp->doff < 5 ||
	    headers > total)
		return 0;
	segment->eth = data;
	segment->ip = ip;
	segment->tcp = tcp;
	segment->total = total;
	segment->payload = total - headers;
	segment->seq = BE32(tcp->seq);
	segment->ack = BE32(tcp->ack_seq);
	segment->flags = tcp_flags(tcp);
	return 1;
}

/* The same for IPv6. False for extension headers as well. */
static __always_inline int parse_segment6(void *data, void *data_end, struct segment *segment)
{
	struct ipv6hdr *ip = (void *)((char *)data + IPV4_OFFSET);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((char *)data + TCP_FRAME_BYTES_6 > (char *)data_end)
		return 0;
	if (ip->version != 6 || ip->nexthdr != IPPROTO_TCP)
		return 0;

	__u32 total = IPV6_BYTES + BE16(ip->payload_len);
	__u32 headers = IPV6_BYTES + tcp->doff * 4;

	if (total > (__u32)((char *)data_end - (char *)data) - IPV4_OFFSET || tcp->doff < 5 ||
	    headers > total)
		return 0;
	segment->eth = data;
	segment->ip6 = ip;
	segment->tcp = tcp;
	segment->total = total;
	segment->payload = total - headers;
	segment->seq = BE32(tcp->seq);
	segment->ack = BE32(tcp->ack_seq);
	segment->flags = tcp_flags(tcp);
	return 1;
}

static __always_inline __u16 checksum_fold64(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return checksum_fold((__u32)sum);
}

/*
 * Sum of the pseudo-header (RFC 9293 section 3.1) of `bytes` bytes of TCP, over words in memory
 * order.
 */
static __always_inline __u64 pseudo_header(__be32 source, __be32 destination, __u32 bytes)
{
	return (__u64)source + destination + BE16(IPPROTO_TCP) + (__u64)BE16(bytes);
}

/*
 * True if the sender left the TCP checksum to hardware, and no hardware was on the way (a veth
 * pair, a virtual machine). The checksum field then holds the sum of the pseudo-header alone. One
 * right checksum in 65536 looks the same; finishing it again does not change it.
 */
static __always_inline int is_unfinished(const struct segment *segment)
{
	__u64 sum =
		pseudo_header(segment->ip->saddr, segment->ip->daddr, segment->total - IPV4_BYTES);
	__u16 folded = (__u16)~checksum_fold64(sum);

	return segment->tcp->check == folded;
}

/* The same for an IPv6 segment (RFC 8200 section 8.1). */
static __always_inline int is_unfinished6(const struct segment *segment)
{
	const __be32 *word = (const void *)&segment->ip6->saddr;
	__u64 sum = (__u64)BE16(IPPROTO_TCP) + (__u64)BE16(segment->total - IPV6_BYTES);

#ifdef __clang__
#pragma unroll
#endif
	for (int i = 0; i < 8; i++)
		sum += word[i];

	__u16 folded = (__u16)~checksum_fold64(sum);

	return segment->tcp->check == folded;
}

/* Sum of the words of an IPv4 header without options. */
static __always_inline __u64 sum_ipv4(const struct iphdr *ip)
{
	const __u32 *word = (const void *)ip;

	return (__u64)word[0] + word[1] + word[2] + word[3] + word[4];
}

/* True if a segment without payload has a right TCP checksum. */
static __always_inline int is_finished(const struct segment *segment, const void *data_end)
{
	const __u32 *word = (const void *)segment->tcp;
	__u64 sum =
		pseudo_header(segment->ip->saddr, segment->ip->daddr, segment->total - IPV4_BYTES);

	/* Otherwise the compiler reads fields through a pointer that the loop has compared, which
	 * the verifier takes for out of bounds. */
	OPAQUE(word);
	for (int i = 0; i < (TCP_BYTES + MOST_OPTION_BYTES) / 4; i++) {
		if (i >= segment->tcp->doff || (const void *)(word + i + 1) > data_end)
			break;
		sum += word[i];
	}
	return checksum_fold64(sum) == 0;
}

/*
 * True if both checksums of a segment without payload are right, or the TCP checksum is left to
 * hardware.
 */
static __always_inline int verify_bare(const struct segment *segment, const void *data_end)
{
	return checksum_fold64(sum_ipv4(segment->ip)) == 0 &&
	       (is_unfinished(segment) || is_finished(segment, data_end));
}

/*
 * The options of a SYN in one word; OPTIONS_READ is always set:
 *
 *     | TSval 32 bits | MSS 16 | 0 | window shift 4 | IXP_*_OK 3 | OPTIONS_READ 1 |
 */
#define OPTIONS_READ 1
#define OPTIONS_FLAGS_SHIFT 1
#define OPTIONS_WINDOW_SHIFT 4
#define OPTIONS_MSS_SHIFT 16
#define OPTIONS_TSVAL_SHIFT 32

static __always_inline __u8 offered_flags(__u64 options)
{
	return (options >> OPTIONS_FLAGS_SHIFT) & 7;
}

static __always_inline __u8 offered_window_shift(__u64 options)
{
	return (options >> OPTIONS_WINDOW_SHIFT) & 15;
}

static __always_inline __u16 offered_mss(__u64 options)
{
	return (__u16)(options >> OPTIONS_MSS_SHIFT);
}

static __always_inline __u32 offered_tsval(__u64 options)
{
	return (__u32)(options >> OPTIONS_TSVAL_SHIFT);
}

static __always_inline __u32 read_be32(const __u8 *at)
{
	return (__u32)at[0] << 24 | (__u32)at[1] << 16 | (__u32)at[2] << 8 | at[3];
}

/*
 * Reads the options in [start, start + bytes) and skips unknown ones. Returns 0 if the lengths do
 * not add up exactly (RFC 9293 section 3.1, MUST-7). Reads nothing at data_end or beyond.
 */
static __always_inline __u64 parse_options(const void *start, __u32 bytes, const void *data_end)
{
	__u32 at = 0, tsval = 0, mss = DEFAULT_MSS, window_shift = 0, flags = 0;

	for (int i = 0; i < MOST_OPTION_BYTES && at < bytes; i++) {
		/* `at` is below 64 already, but the verifier of older kernels cannot compare two
		 * variables. */
		OPAQUE(at);
		at &= 63;

		const __u8 *option = (const __u8 *)start + at;

		if ((const void *)(option + 1) > data_end)
			return 0;
		if (option[0] == OPTION_END)
			break;
		if (option[0] == OPTION_NO_OPERATION) {
			at++;
			continue;
		}
		if (at + 2 > bytes || (const void *)(option + 2) > data_end)
			return 0;

		__u32 length = option[1];

		if (length < 2 || at + length > bytes)
			return 0;
		if (option[0] == OPTION_MSS && length == 4) {
			if ((const void *)(option + 4) > data_end)
				return 0;
			mss = (__u32)option[2] << 8 | option[3];
		} else if (option[0] == OPTION_WINDOW_SCALE && length == 3) {
			if ((const void *)(option + 3) > data_end)
				return 0;
			window_shift = option[2];
			flags |= IXP_WSCALE_OK;
		} else if (option[0] == OPTION_SACK_PERMITTED && length == 2) {
			flags |= IXP_SACK_OK;
		} else if (option[0] == OPTION_TIMESTAMPS && length == 10) {
			if ((const void *)(option + 10) > data_end)
				return 0;
			tsval = read_be32(option + 2);
			flags |= IXP_TSTAMP_OK;
		}
		at += length;
	}
	if (window_shift > MOST_WINDOW_SHIFT)
		window_shift = MOST_WINDOW_SHIFT;
	return (__u64)tsval << OPTIONS_TSVAL_SHIFT | (__u64)mss << OPTIONS_MSS_SHIFT |
	       window_shift << OPTIONS_WINDOW_SHIFT | flags << OPTIONS_FLAGS_SHIFT | OPTIONS_READ;
}

#endif
