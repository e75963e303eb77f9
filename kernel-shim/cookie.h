/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Initial sequence numbers: those of RFC 6528, and SYN cookies (RFC 4987 section 3.6). Both come
 * from SipHash under the balancer's secret, so every process of this balancer makes the same ones.
 * src/tcp/handshake.ts and src/tcp/syn-cookie.ts have the same. Compiles for BPF and natively.
 *
 *     cookie: | 21 bits of the hash | 11 bits: MSS (5) wscale (4) SACK (1) timestamps (1), under 11
 * more |
 */
#ifndef BATON_COOKIE_H
#define BATON_COOKIE_H

#include "parse.h"
#include "siphash.h"

/* RFC 6528 section 3: the clock ticks every 4 us, so 250 times a ms. */
#define ISN_TICKS_PER_MS 250
/* A cookie's period is 2^16 ms; it is taken in its own and in the next. */
#define COOKIE_PERIOD_SHIFT 16
#define COOKIE_BITS 11
#define COOKIE_MASK ((1U << COOKIE_BITS) - 1)
#define COOKIE_WSCALE_SHIFT 5
#define COOKIE_NO_WSCALE 15
#define COOKIE_SACK 0x200
#define COOKIE_TSTAMP 0x400

/* The least MSS of IPv4 (RFC 9293 section 3.7.1): a smaller one counts as this. */
#define LEAST_MSS 536

/* What a SYN says about a connection; host byte order. */
struct syn_tuple {
	__u32 client;
	__u32 virtual_addr;
	__u32 ports; /* client port << 16 | virtual server's port */
	__u32 client_isn;
};

/* The upper half starts the session's timestamp clock, the lower one its sequence numbers. */
static __always_inline __u64 tuple_hash(const __u8 *secret, const struct syn_tuple *tuple)
{
	union {
		__u64 words[2];
		__be32 part[4];
	} message = { .part = { BE32(tuple->client), BE32(tuple->virtual_addr), BE32(tuple->ports),
		                0 } };

	return siphash(secret, message.words, 2);
}

static __always_inline __u32 rfc6528_isn(__u64 hash, __u32 ms)
{
	return (__u32)hash + ms * ISN_TICKS_PER_MS;
}

/*
 * Which of 32 values, in ascending order, is the largest that is not above `mss`; 0 when all are.
 * Counted rather than looked up: BPF would keep a table in a map, and read it in a loop.
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

/* The options of a SYN as a cookie keeps them. `scales` and `flags` are those of a told_record. */
static __always_inline __u32 cookie_bits(__u16 mss, __u8 scales, __u8 flags)
{
	__u32 wscale = flags & IXP_WSCALE_OK ? scales >> 4 : COOKIE_NO_WSCALE;

	return cookie_mss_index(mss) | wscale << COOKIE_WSCALE_SHIFT |
	       (flags & IXP_SACK_OK ? COOKIE_SACK : 0) |
	       (flags & IXP_TSTAMP_OK ? COOKIE_TSTAMP : 0);
}

/* The initial sequence number that is a cookie; `secret` is the second half of the balancer's. */
static __always_inline __u32 cookie_isn(const __u8 *secret, const struct syn_tuple *tuple,
                                        __u32 bits, __u32 ms)
{
	union {
		__u64 words[3];
		__be32 part[6];
	} message = { .part = { BE32(tuple->client), BE32(tuple->virtual_addr), BE32(tuple->ports),
		                BE32(tuple->client_isn), BE32(ms >> COOKIE_PERIOD_SHIFT), 0 } };
	__u64 hash = siphash(secret, message.words, 3);

	return ((__u32)(hash >> 32) & ~COOKIE_MASK) | (bits ^ ((__u32)hash & COOKIE_MASK));
}

#endif
