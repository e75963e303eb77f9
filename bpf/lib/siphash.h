/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SipHash-2-4 with a 64-bit result (Aumasson and Bernstein, 2012) for messages of whole 8-byte
 * words, and the tags of IXP and IXCP. Compiles for BPF and natively.
 */
#ifndef BATON_SIPHASH_H
#define BATON_SIPHASH_H

#include <linux/in6.h>

#include "config.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SIP_LE64(x) (x)
#define SIP_BE64(x) __builtin_bswap64(x)
#else
#define SIP_LE64(x) __builtin_bswap64(x)
#define SIP_BE64(x) (x)
#endif

#define SIP_ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

struct sip_state {
	__u64 v0, v1, v2, v3;
};

static __always_inline void sip_round(struct sip_state *s)
{
	s->v0 += s->v1;
	s->v1 = SIP_ROTATE(s->v1, 13) ^ s->v0;
	s->v0 = SIP_ROTATE(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = SIP_ROTATE(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = SIP_ROTATE(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = SIP_ROTATE(s->v1, 17) ^ s->v2;
	s->v2 = SIP_ROTATE(s->v2, 32);
}

static __always_inline void sip_word(struct sip_state *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

/* Hashes `count` words in memory order. `count` must be a constant: the loop is unrolled. */
static __always_inline __u64 siphash(const __u8 *key, const __u64 *words, int count)
{
	__u64 k0, k1;

	__builtin_memcpy(&k0, key, sizeof(k0));
	__builtin_memcpy(&k1, key + sizeof(k0), sizeof(k1));
	k0 = SIP_LE64(k0);
	k1 = SIP_LE64(k1);

	struct sip_state s = {
		.v0 = k0 ^ 0x736f6d6570736575ULL,
		.v1 = k1 ^ 0x646f72616e646f6dULL,
		.v2 = k0 ^ 0x6c7967656e657261ULL,
		.v3 = k1 ^ 0x7465646279746573ULL,
	};

#ifdef __clang__
#pragma unroll
#endif
	for (int i = 0; i < count; i++)
		sip_word(&s, SIP_LE64(words[i]));
	sip_word(&s, (__u64)(count * 8) << 56);
	s.v2 ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

/* The tag of an IXP header, in network byte order; ixp.h says what it covers. */
static __always_inline __be64 ixp_tag(const __u8 *key, const struct session_key *tuple, __be32 seq,
                                      __be32 ack, const struct ixp_hdr *ixp)
{
	union {
		__u64 words[6];
		struct {
			struct session_key tuple;
			__be32 seq, ack;
			__u8 header[IXP_TAGGED];
		} part;
	} message;

	message.part.tuple = *tuple;
	message.part.seq = seq;
	message.part.ack = ack;
	__builtin_memcpy(message.part.header, ixp, IXP_TAGGED);
	return SIP_BE64(siphash(key, message.words, 6));
}

/* The same for a segment between IPv6 addresses, which the tag covers in full. */
static __always_inline __be64 ixp_tag6(const __u8 *key, const struct in6_addr *source,
                                       const struct in6_addr *destination,
                                       const struct session_key *tuple, __be32 seq, __be32 ack,
                                       const struct ixp_hdr *ixp)
{
	union {
		__u64 words[9];
		struct {
			struct in6_addr source, destination;
			__be16 client_port, virtual_port;
			__be32 seq, ack;
			__u8 header[IXP_TAGGED];
		} part;
	} message;

	message.part.source = *source;
	message.part.destination = *destination;
	message.part.client_port = tuple->client_port;
	message.part.virtual_port = tuple->virtual_port;
	message.part.seq = seq;
	message.part.ack = ack;
	__builtin_memcpy(message.part.header, ixp, IXP_TAGGED);
	return SIP_BE64(siphash(key, message.words, 9));
}

/* The tag of an IXCP header between two addresses, in network byte order. */
static __always_inline __be64 ixcp_tag(const __u8 *key, __be32 source, __be32 destination,
                                       const struct ixcp_hdr *ixcp)
{
	union {
		__u64 words[5];
		struct {
			__be32 source, destination;
			__u8 header[IXCP_TAGGED];
		} part;
	} message;

	message.part.source = source;
	message.part.destination = destination;
	__builtin_memcpy(message.part.header, ixcp, IXCP_TAGGED);
	message.part.header[__builtin_offsetof(struct ixcp_hdr, hole)] = 0;
	message.part.header[__builtin_offsetof(struct ixcp_hdr, hole) + 1] = 0;
	return SIP_BE64(siphash(key, message.words, 5));
}

#endif
