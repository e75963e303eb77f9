/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about segments that a translated session has sent. They quote the numbers of the
 * stream. The stack believes an error only if its number is between those that the socket has sent
 * and those that were acknowledged (RFC 5927 section 4.1), so without translation a session would
 * never learn the MTU of its path.
 */
#ifndef BATON_ERRORS_H
#define BATON_ERRORS_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "alias.h"
#include "frame.h"
#include "maps.h"
#include "parse.h"
#include "translate.h"

#define ICMP_CHECK (IPV4_OFFSET + IPV4_BYTES + 2)
#define QUOTED_IPV4 (IPV4_OFFSET + IPV4_BYTES + ICMP_HEADER_BYTES)
#define QUOTED_TCP (QUOTED_IPV4 + IPV4_BYTES)

/* What an error quotes in any case (RFC 792): the IPv4 header, ports, and sequence number. */
struct quote {
	struct iphdr ip;
	struct ports ports;
	__be32 seq;
};

/* The same over IPv6 (RFC 4443). */
#define ICMPV6_CHECK (IPV4_OFFSET + IPV6_BYTES + 2)
#define QUOTED_IPV6 (IPV4_OFFSET + IPV6_BYTES + ICMP_HEADER_BYTES)
#define QUOTED_TCP_6 (QUOTED_IPV6 + IPV6_BYTES)

struct quote6 {
	struct ipv6hdr ip;
	struct ports ports;
	__be32 seq;
};

static __noinline int receive_error6(struct __sk_buff *skb)
{
	const struct shim_config *config = get_config();
	struct quote6 quote;
	struct session_key tuple = {};
	const struct session *session;

	if (!config || !is_watching() ||
	    bpf_skb_load_bytes(skb, QUOTED_IPV6, &quote, sizeof(quote)) || quote.ip.version != 6 ||
	    quote.ip.nexthdr != IPPROTO_TCP)
		return TC_ACT_OK;
	tuple.client = alias_of(&quote.ip.daddr, config->alias);
	tuple.virtual_addr = alias_of(&quote.ip.saddr, config->alias);
	tuple.client_port = quote.ports.destination;
	tuple.virtual_port = quote.ports.source;
	session = bpf_map_lookup_elem(&sessions, &tuple);
	if (!session || !session->translation.on)
		return TC_ACT_OK;

	__be32 seq = bpf_htonl(socket_sent(session, bpf_ntohl(quote.seq)));

	if (bpf_skb_store_bytes(skb, QUOTED_TCP_6 + TCP_SEQ, &seq, sizeof(seq), 0) ||
	    bpf_l4_csum_replace(skb, ICMPV6_CHECK, quote.seq, seq, sizeof(seq)))
		return drop(SHIM_DROP_REWRITE);
	return TC_ACT_OK;
}

static __noinline int receive_error(struct __sk_buff *skb)
{
	struct quote quote;
	struct session_key tuple = {};
	const struct session *session;

	if (!is_watching() || bpf_skb_load_bytes(skb, QUOTED_IPV4, &quote, sizeof(quote)) ||
	    quote.ip.version != 4 || quote.ip.ihl != 5 || quote.ip.protocol != IPPROTO_TCP ||
	    quote.ip.frag_off & bpf_htons(IPV4_OFFSET_MASK))
		return TC_ACT_OK;
	tuple.client = quote.ip.daddr;
	tuple.virtual_addr = quote.ip.saddr;
	tuple.client_port = quote.ports.destination;
	tuple.virtual_port = quote.ports.source;
	session = bpf_map_lookup_elem(&sessions, &tuple);
	if (!session || !session->translation.on)
		return TC_ACT_OK;

	__be32 seq = bpf_htonl(socket_sent(session, bpf_ntohl(quote.seq)));

	if (bpf_skb_store_bytes(skb, QUOTED_TCP + TCP_SEQ, &seq, sizeof(seq), 0) ||
	    bpf_l4_csum_replace(skb, ICMP_CHECK, quote.seq, seq, sizeof(seq)))
		return drop(SHIM_DROP_REWRITE);
	return TC_ACT_OK;
}

#endif
