// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The balancer's fast path. It runs before the kernel makes a socket buffer of a frame:
 *
 *     wire -> baton_xdp -+-> node                 segments of sessions that a node owns
 *                        +-> client               SYN/ACKs
 *                        +-> AF_XDP -> engine     heads, RSTs, notices, errors
 *                        +-> tap -> engine        of these, frames larger than the MTU
 *                        +-> guard -> node        checksum or segmentation left to hardware
 *                        +-> guard -> stack       everything else
 *
 * The engine decides; this program only does what the shared records say (session.h). The program
 * stays when the process is gone, and its sessions continue. It uses no feature newer than kernel
 * 5.10, but has only been loaded on 6.18.
 */
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "xdp-closing.h"
#include "xdp-forward.h"
#include "xdp-ipv6.h"
#include "xdp-maps.h"
#include "xdp-notice.h"
#include "xdp-segment.h"
#include "xdp-session.h"
#include "xdp-syn.h"
#include "xdp-tap.h"
#include "xdp-wrap.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Results besides the verdicts of XDP: no virtual server with mode handoff gets the frame. */
#define FOR_FORWARD 0x100
#define FOR_FORWARD_ICMP 0x101

struct vlan_header {
	__be16 tci;
	__be16 protocol;
};

/* True if the frame is for one of our MAC addresses. */
static __always_inline int is_ours(const struct xdp_control *us, const struct ethhdr *eth)
{
	const __u16 *to = (const void *)eth->h_dest;

#pragma unroll
	for (__u32 i = 0; i < MAX_INTERFACES; i++) {
		const __u16 *mac = (const void *)us->mac[i];

		if (i < us->interfaces && to[0] == mac[0] && to[1] == mac[1] && to[2] == mac[2])
			return 1;
	}
	return 0;
}

/* Removes a VLAN tag that only carries a priority from an IPv4 frame. True if there was one. */
static __noinline int untag(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct vlan_header *tag = (void *)(eth + 1);

	if ((void *)(tag + 1) > (void *)(long)ctx->data_end || tag->protocol != BE16(ETH_P_IP) ||
	    of_another_vlan(1, BE16(tag->tci)))
		return 0;

	struct mac_words macs = *(struct mac_words *)eth;

	if (bpf_xdp_adjust_head(ctx, sizeof(*tag)))
		return 0;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return 0;
	/* The inner EtherType is in its place already. */
	*(struct mac_words *)eth = macs;
	return 1;
}

/*
 * Handles TCP with IPv4 options, fragments and wrong lengths. The engine counts the kind of error.
 * Frames of other services on this machine pass.
 */
static __noinline int receive_unusual(struct xdp_md *ctx, const struct xdp_control *us)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;

	if ((void *)(ip + 1) > data_end || !bpf_map_lookup_elem(&virtual_addresses, &ip->daddr))
		return XDP_PASS;
	/*
	 * A later fragment has no port. Without the first one, the stack drops it. With mode
	 * forward it follows the first one.
	 */
	if (ip->frag_off & BE16(IPV4_OFFSET_MASK))
		return FOR_FORWARD;

	struct ports *ports = (void *)ip + ip->ihl * 4;

	if (ip->ihl >= 5 && (void *)(ports + 1) <= data_end &&
	    find_server(us, ip->daddr, ports->destination) == NO_SERVER)
		return FOR_FORWARD;
	return to_engine(ctx, us, 0, XDP_TO_ENGINE_ODD);
}

/* Gives an ICMP error about a packet of a virtual server to the worker that owns the session. */
static __noinline int receive_icmp(struct xdp_md *ctx, const struct xdp_control *us)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;

	if ((void *)(ip + 1) > data_end || !bpf_map_lookup_elem(&virtual_addresses, &ip->daddr) ||
	    ip->frag_off & BE16(IPV4_OFFSET_MASK))
		return XDP_PASS;

	__u8 *type = (void *)ip + ip->ihl * 4;

	if ((void *)(type + 1) > data_end ||
	    (*type != ICMP_UNREACHABLE && *type != ICMP_TIME_EXCEEDED &&
	     *type != ICMP_PARAMETER_PROBLEM))
		return XDP_PASS;

	struct iphdr *inner = (void *)(type + ICMP_HEADER_BYTES);
	struct ports *ports = (void *)(inner + 1);
	struct place place = {};

	if ((void *)(ports + 1) <= data_end && *(__u8 *)inner == VERSION_4_WORDS_5) {
		__u32 server = find_server(us, inner->saddr, ports->source);

		if (inner->protocol != IPPROTO_TCP || server == NO_SERVER)
			return FOR_FORWARD_ICMP;
		place_of(us, BE32(inner->daddr), BE16(ports->destination), server, &place);
	}
	return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_ICMP);
}

/* Gives a notice to the worker that owns the session, and a report to the first worker. */
static __noinline int receive_ixcp(struct xdp_md *ctx, const struct xdp_control *us)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;
	struct ixcp_hdr *ixcp = (void *)(ip + 1);
	struct place place = {};

	if ((void *)ixcp > data_end || ip->daddr != us->own)
		return XDP_PASS;
	if (ip->ihl == 5 && (void *)(ixcp + 1) <= data_end && find_told(us, ixcp, &place))
		return receive_notice(ctx, us, &place);
	return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_IXCP);
}

static __always_inline int receive_tcp(struct xdp_md *ctx, struct xdp_control *us)
{
	struct segment segment;

	if (!parse_segment((void *)(long)ctx->data, (void *)(long)ctx->data_end, &segment))
		return receive_unusual(ctx, us);

	__u32 server = find_server(us, segment.ip->daddr, segment.tcp->dest);

	if (server == NO_SERVER)
		return FOR_FORWARD;

	int acks_up = (server & SERVER_ACKS_UP) != 0;
	struct place place;

	place_of(us, BE32(segment.ip->saddr), BE16(segment.tcp->source), server, &place);

	struct session_record *record = find(us, &place);

	if (record) {
		__u8 action = *(volatile __u8 *)&record->action;

		if (action == ACTION_CLOSING)
			return receive_closing(ctx, us, record, place.worker);
		if (action)
			return receive_session(ctx, us, record, action, &segment, &place, 0);
		if (!acks_up && (record->state == SESSION_LINGERING ? absorb_early(ctx, us)
		                                                    : absorb(ctx, record)))
			return XDP_DROP;
		return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_STATE);
	}
	if ((segment.flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) == TCP_SYN)
		return receive_syn(ctx, us, &place, NULL);
	if (!acks_up && absorb_early(ctx, us))
		return XDP_DROP;
	return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_UNKNOWN);
}

/*
 * True if a frame leaves the machine, with or without the stack. Frames for the engine or the stack
 * itself still have our MAC address as destination.
 */
static __noinline int leaves_machine(struct xdp_md *ctx, const struct xdp_control *us, int verdict)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	return verdict == XDP_TX ||
	       (verdict != XDP_DROP && (void *)(eth + 1) <= (void *)(long)ctx->data_end &&
	        !is_ours(us, eth));
}

/* Handles a frame for one of our MAC addresses. */
static __always_inline int receive(struct xdp_md *ctx, struct xdp_control *us)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	if (eth->h_proto == BE16(ETH_P_8021Q)) {
		if (!untag(ctx))
			return XDP_PASS;
	} else if (eth->h_proto != BE16(ETH_P_IP)) {
		struct ipv6hdr *ip6 = (void *)(eth + 1);

		if (eth->h_proto != BE16(ETH_P_IPV6) || !(us->ipv6 || us->has_own6) ||
		    (void *)(ip6 + 1) > (void *)(long)ctx->data_end)
			return XDP_PASS;
		/* Called from here, because the stacks of all callers together have a limit. */
		return ip6->nexthdr == BATON_IPPROTO_IXCP ? receive_ixcp6(ctx, us)
		                                          : receive_ipv6(ctx, us);
	}

	struct iphdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end || ip->version != 4)
		return XDP_PASS;
	switch (ip->protocol) {
	case IPPROTO_TCP:
		return receive_tcp(ctx, us);
	case IPPROTO_UDP:
		return FOR_FORWARD;
	case IPPROTO_ICMP:
		return receive_icmp(ctx, us);
	case BATON_IPPROTO_IXCP:
		return receive_ixcp(ctx, us);
	default:
		return XDP_PASS;
	}
}

SEC("xdp")
int baton_xdp(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct xdp_control *us = bpf_map_lookup_elem(&control, &zero);
	struct ethhdr *eth = (void *)(long)ctx->data;

	if (!us || us->layout != SHARED_LAYOUT || (void *)(eth + 1) > (void *)(long)ctx->data_end ||
	    !is_ours(us, eth))
		return XDP_PASS;

	int tapped = us->tap;

	if (tapped)
		tap_frame(ctx, TAP_RECEIVED);

	int verdict = receive(ctx, us);

	if (verdict >= FOR_FORWARD) {
		if (!us->forwards)
			return XDP_PASS;
		verdict = verdict == FOR_FORWARD ? receive_forward(ctx, us)
		                                 : receive_forward_icmp(ctx, us);
	}

	/* Frames for the engine are unchanged, so they need no second record. */
	if (tapped && leaves_machine(ctx, us, verdict))
		tap_frame(ctx, TAP_KERNEL);
	return verdict;
}
