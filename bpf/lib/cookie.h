/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Initial sequence numbers. Each of them is a SYN cookie (RFC 4987 section 3.6), even if a session
 * is kept. Any process of this balancer that has the same secret can therefore complete a handshake
 * that another process began. src/engine/handshake.ts and src/engine/syn-cookie.ts compute the same
 * numbers. Compiles for BPF and natively.
 *
 *     | 10 bits: connection | 11 bits: client's sequence number | 11 bits, masked: options |
 *
 * The options are MSS (5 bits), window scale (4), SACK (1) and timestamps (1).
 */
#ifndef BATON_COOKIE_H
#define BATON_COOKIE_H

#include "parse.h"
#include "siphash.h"

/* A period is 2^16 ms. A cookie is valid in its own period and in the next one. */
#define COOKIE_PERIOD_SHIFT 16
#define COOKIE_PERIOD_MASK (0xffffffffU >> COOKIE_PERIOD_SHIFT)
/* Longest life of a cookie, in ms. */
#define COOKIE_LIFE_MS (2 << COOKIE_PERIOD_SHIFT)
#define COOKIE_BITS 11
#define COOKIE_MASK ((1U << COOKIE_BITS) - 1)
#define COOKIE_PROOF_MASK ((1U << 2 * COOKIE_BITS) - 1)
/* The uppermost bits of a product depend on all bits of its factors. */
#define COOKIE_MIXED_SHIFT (32 - 2 * COOKIE_BITS)
#define COOKIE_WSCALE_SHIFT 5
#define COOKIE_NO_WSCALE 15
#define COOKIE_SACK 0x200
#define COOKIE_TSTAMP 0x400

/* The smallest MSS of IPv4 (RFC 9293 section 3.7.1). Smaller values count as this one. */
#define LEAST_MSS 536

/* Addresses, ports and sequence number of a SYN, in host byte order. */
struct syn_tuple {
	__u32 client;
	__u32 virtual_addr;
	__u32 ports; /* client port << 16 | virtual server's port */
	__u32 client_isn;
};

/* The hash of a connection. Its upper half is the offset of the session's timestamp clock (RFC 7323
 * section 5.4). */
static __always_inline __u64 tuple_hash(const __u8 *secret, const struct syn_tuple *tuple)
{
	union {
		__u64 words[2];
		__be32 part[4];
	} message = { .part = { BE32(tuple->client), BE32(tuple->virtual_addr), BE32(tuple->ports),
		                0 } };

	return siphash(secret, message.words, 2);
}

/*
 * The index of the largest of 32 ascending values that is not above `mss`; 0 if all are above it.
 * This counts instead of looking up: BPF would keep a table in a map and read it in a loop.
 */
static __always_inline __u32 cookie_mss_index(__u32 mss)
{
	__u32 index = 0;

#define ABOVE(value) index += mss >= (value)
	ABOVE(576), ABOVE(640), ABOVE(768), ABOVE(896), ABOVE(966), ABOVE(1024), ABOVE(1120);
	ABOVE(1160), ABOVE(1200), ABOVE(1220), ABOVE(1240), ABOVE(1260), ABOVE(1280), ABOVE(1300);
	ABOVE(1320), ABOVE(1340), ABOVE(1350), ABOVE(1360), ABOVE(1370), ABOVE(1380), ABOVE(1390);
	ABOVE(1400), ABOVE(1410), ABOVE(1420), ABOVE(1430), ABOVE(1440), ABOVE(1452), ABOVE(1460);
	ABOVE(4312), ABOVE(8960), ABOVE(16344);
#undef ABOVE
	return index;
}

/* The 11 bits that hold the options of a SYN. `scales` and `flags` are fields of kernel_event. */
static __always_inline __u32 cookie_bits(__u16 mss, __u8 scales, __u8 flags)
{
	__u32 wscale = flags & IXP_WSCALE_OK ? scales >> 4 : COOKIE_NO_WSCALE;

	return cookie_mss_index(mss) | wscale << COOKIE_WSCALE_SHIFT |
	       (flags & IXP_SACK_OK ? COOKIE_SACK : 0) |
	       (flags & IXP_TSTAMP_OK ? COOKIE_TSTAMP : 0);
}

/* The hash of a connection in a period. `secret` is the second half of xdp_control.secret. */
static __always_inline __u64 cookie_hash(const __u8 *secret, const struct syn_tuple *tuple,
                                         __u32 period)
{
	union {
		__u64 words[2];
		__be32 part[4];
	} message = { .part = { BE32(tuple->client), BE32(tuple->virtual_addr), BE32(tuple->ports),
		                BE32(period) } };

	return siphash(secret, message.words, 2);
}

/* The bits of a cookie above its options. */
static __always_inline __u32 cookie_proof(__u64 hash, __u32 client_isn)
{
	__u32 upper = (__u32)(hash >> 32);
	__u32 mixed = (client_isn ^ (__u32)hash) * (upper | 1);

	return (upper & ~COOKIE_PROOF_MASK) |
	       (mixed >> COOKIE_MIXED_SHIFT & COOKIE_PROOF_MASK & ~COOKIE_MASK);
}

/* The initial sequence number that answers a SYN which arrived at `ms`. */
static __always_inline __u32 cookie_isn(const __u8 *secret, const struct syn_tuple *tuple,
                                        __u32 bits, __u32 ms)
{
	__u64 hash = cookie_hash(secret, tuple, ms >> COOKIE_PERIOD_SHIFT);

	return cookie_proof(hash, tuple->client_isn) | (bits ^ ((__u32)hash & COOKIE_MASK));
}

/* True if cookie_isn made `isn` in this period or the one before, with any options. */
static __always_inline int is_cookie(const __u8 *secret, const struct syn_tuple *tuple, __u32 isn,
                                     __u32 ms)
{
	__u32 period = ms >> COOKIE_PERIOD_SHIFT;

	for (__u32 ago = 0; ago < 2; ago++) {
		__u64 hash = cookie_hash(secret, tuple, (period - ago) & COOKIE_PERIOD_MASK);

		if (!((cookie_proof(hash, tuple->client_isn) ^ isn) & ~COOKIE_MASK))
			return 1;
	}
	return 0;
}

#endif
