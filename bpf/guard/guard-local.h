/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Frames for this machine's own web server, where the balancer is a node, too. */
#ifndef BATON_GUARD_LOCAL_H
#define BATON_GUARD_LOCAL_H

#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "guard-maps.h"
#include "ixp.h"

/* True if this machine is a node, too. */
static __always_inline int is_node(void)
{
	__u32 zero = 0;
	const struct guard_local *us = bpf_map_lookup_elem(&local, &zero);

	return us && us->on;
}

/*
 * Frames that come from this machine itself, with a mark that no frame of the wire has: the shim
 * gets them.
 */
static __always_inline int is_for_shim(const struct __sk_buff *skb)
{
	return (skb->mark == BATON_MARK_LOCAL || skb->mark == BATON_MARK_RETRY ||
	        skb->mark == BATON_MARK_AGAIN) &&
	       is_node();
}

/* Gives a frame to shim and stack. It has an address that no interface has. */
static __always_inline int give_to_stack(struct __sk_buff *skb)
{
	if (skb->mark == BATON_MARK_LOCAL)
		skb->mark = 0;
	count(GUARD_TO_OWN_STACK);
	return bpf_skb_change_type(skb, PACKET_HOST) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

#endif
