/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Aliases of IPv6 addresses: numbers of 32 bits that stand where the programs have an IPv4 address.
 * They are in network byte order there, as IPv4 addresses are. src/wire/alias.ts computes the same,
 * and says why. Compiles for BPF and natively.
 */
#ifndef BATON_ALIAS_H
#define BATON_ALIAS_H

#include "parse.h"

static __always_inline __u32 alias_mix(__u32 word)
{
	word = (word ^ word >> 16) * 0x7feb352dU;
	return (word ^ word >> 15) * 0x846ca68bU;
}

/* @key is four words in host byte order. */
static __always_inline __be32 alias_of(const struct in6_addr *address, const __u32 *key)
{
	const __be32 *words = address->in6_u.u6_addr32;
	__u32 hash = alias_mix(BE32(words[0]) ^ key[0]);

	hash = alias_mix(hash ^ hash >> 16 ^ BE32(words[1]) ^ key[1]);
	hash = alias_mix(hash ^ hash >> 16 ^ BE32(words[2]) ^ key[2]);
	hash = alias_mix(hash ^ hash >> 16 ^ BE32(words[3]) ^ key[3]);
	return BE32(hash ^ hash >> 16);
}

#endif
