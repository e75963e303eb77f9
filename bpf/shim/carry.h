/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets that come to this node across routers. Each is carried in a packet from the balancer to
 * the node's own address (IXP_CARRY). Here it gets its own IP header back, and is handled as if it
 * had come by the link.
 *
 *     Ethernet | IPv4 balancer -> node, 253 | IXP_CARRY | IPv4 client -> virtual address | ...
 *     Ethernet | IPv4 client -> virtual address | ...
 */
#ifndef BATON_CARRY_H
#define BATON_CARRY_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "frame.h"
#include "maps.h"
#include "parse.h"

/* What stands before the packet that is carried. */
#define CARRIED_OFFSET (IPV4_OFFSET + CARRY_BYTES)
#define CARRY_FRAME_BYTES (CARRIED_OFFSET + IPV4_BYTES)
#define PORT_BYTES 4

/* Whether the packet behind the IP header is carried. The header must be readable. */
static __always_inline int is_carried(const struct __sk_buff *skb)
{
	const void *data = (void *)(long)skb->data;
	const struct carry_hdr *carry = data + IPV4_OFFSET + IPV4_BYTES;

	return (const void *)(carry + 1) <= (const void *)(long)skb->data_end &&
	       carry->type == IXP_CARRY;
}

static __always_inline int is_plain_header(const struct iphdr *ip)
{
	return ip->version == 4 && ip->ihl == 5 &&
	       !(ip->frag_off & bpf_htons(IPV4_FRAGMENT_MASK));
}

/*
 * Whether a segment belongs to another session of its four-tuple than the header says, so that the
 * balancer did not send it. Without a session there is nothing to compare.
 */
static __always_inline int is_of_another_session(struct __sk_buff *skb, const struct iphdr *ip,
                                                 __be32 nonce)
{
	struct session_key tuple = { .client = ip->saddr, .virtual_addr = ip->daddr };

	if (bpf_skb_load_bytes(skb, CARRY_FRAME_BYTES, &tuple.client_port, PORT_BYTES))
		return 1;

	const struct session *session = bpf_map_lookup_elem(&sessions, &tuple);

	return session && session->nonce != nonce;
}

/* Takes a packet out of what carries it. Returns its protocol, or minus the counter of an error. */
static __noinline int uncarry(struct __sk_buff *skb)
{
	const struct shim_balancer *from;
	struct iphdr inner;
	const void *data;

	/* If this fails, the frame is too short. */
	if ((void *)(long)skb->data + CARRY_FRAME_BYTES > (void *)(long)skb->data_end)
		bpf_skb_pull_data(skb, CARRY_FRAME_BYTES);
	data = (void *)(long)skb->data;
	if (data + CARRY_FRAME_BYTES > (void *)(long)skb->data_end)
		return -SHIM_DROP_TRUNCATED;

	const struct iphdr *outer = data + IPV4_OFFSET;
	const struct carry_hdr *carry = (const void *)(outer + 1);
	__be32 balancer = outer->saddr;
	__be32 nonce = carry->session;

	if (outer->version != 4 || outer->ihl != 5)
		return -SHIM_DROP_IP_OPTIONS;
	if (outer->frag_off & bpf_htons(IPV4_FRAGMENT_MASK))
		return -SHIM_DROP_FRAGMENT;
	if (carry->version != BATON_VERSION)
		return -SHIM_DROP_VERSION;
	__builtin_memcpy(&inner, carry + 1, sizeof(inner));
	if (carry->length != CARRY_LENGTH ||
	    bpf_ntohs(outer->tot_len) != bpf_ntohs(inner.tot_len) + CARRY_BYTES)
		return -SHIM_DROP_LENGTH;
	from = bpf_map_lookup_elem(&balancers, &balancer);
	/* The alias of an IPv6 balancer is no address of a sender. */
	if (!from || from->family != FAMILY_IPV4)
		return -SHIM_DROP_UNKNOWN_BALANCER;
	if (!is_plain_header(&inner))
		return -SHIM_DROP_CARRIED;
	if (inner.protocol == IPPROTO_TCP) {
		if (is_of_another_session(skb, &inner, nonce))
			return -SHIM_DROP_CARRIED;
	} else if (inner.protocol != BATON_IPPROTO_IXP && inner.protocol != IPPROTO_ICMP) {
		return -SHIM_DROP_CARRIED;
	}
	/* This removes what follows the outer IP header, which the inner one then replaces. The sum
	 * over a valid IP header is 0, so a checksum that the device has computed stays right. */
	if (bpf_skb_adjust_room(skb, -CARRY_BYTES, BPF_ADJ_ROOM_NET,
	                        BPF_F_ADJ_ROOM_NO_CSUM_RESET) ||
	    bpf_skb_store_bytes(skb, IPV4_OFFSET, &inner, sizeof(inner), 0))
		return -SHIM_DROP_REWRITE;
	count(SHIM_CARRIED);
	return inner.protocol;
}

#endif
