// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The balancer's fast path, before the kernel makes a socket buffer of a frame:
 *
 *     wire -> baton_xdp -+-> out again, to the node      sessions that were handed over
 *                        +-> out again, to the client    SYN/ACK
 *                        +-> the engine's socket         what needs thought: heads, RST, notices
 *                        +-> tap -> the engine           of that, what is larger than the wire's
 *                        +-> guard -> out again          checksum or cutting left to hardware
 *                        +-> guard -> stack              everything else
 *
 * The engine decides; this program only does what the shared records say (session.h). When the
 * process is gone the program stays, and its sessions go on. It uses nothing newer than
 * kernel 5.10, but has been loaded on 6.18 only.
 */
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "xdp-maps.h"
#include "xdp-notice.h"
#include "xdp-session.h"
#include "xdp-syn.h"
#include "xdp-tap.h"
#include "xdp-wrap.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* RFC 792. linux/icmp.h would pull in the C library. */
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

struct vlan_header {
	__be16 tci;
	__be16 protocol;
};

/*
 * Is this frame for one of our MAC addresses, from somebody else? What the guard turned round, on
 * its way between the engine and this machine's own kernel, comes by here once more where XDP is
 * generic: it has our address on both sides.
 */
static __always_inline int is_ours(const struct xdp_control *us, const struct ethhdr *eth)
{
	const __u16 *to = (const void *)eth->h_dest;
	const __u16 *from = (const void *)eth->h_source;

	if (from[0] == to[0] && from[1] == to[1] && from[2] == to[2])
		return 0;
#pragma unroll
	for (__u32 i = 0; i < MAX_INTERFACES; i++) {
		const __u16 *mac = (const void *)us->mac[i];

		if (i < us->interfaces && to[0] == mac[0] && to[1] == mac[1] && to[2] == mac[2])
			return 1;
	}
	return 0;
}

/* Takes the tag out of an IPv4 frame that has it for its priority only. True when that was done. */
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
	/* The type of what is inside stands where it belongs already. */
	*(struct mac_words *)eth = macs;
	return 1;
}

#define NO_SERVER (~0U)

/* The index of a virtual server of ours, or NO_SERVER. */
static __always_inline __u32 find_server(const struct xdp_control *us, __be32 address, __be16 port)
{
#pragma unroll
	for (__u32 i = 0; i < NEAR_SERVERS; i++) {
		if (i < us->servers && us->near[i].address == address && us->near[i].port == port)
			return us->near[i].index;
	}
	if (us->servers <= NEAR_SERVERS)
		return NO_SERVER;

	struct guard_server server = { .address = address, .port = port };
	const __u32 *index = bpf_map_lookup_elem(&virtual_servers, &server);

	return index ? *index : NO_SERVER;
}

/* TCP that is no plain segment: the engine counts it by what is wrong. Other services keep theirs.
 */
static __noinline int receive_odd(struct xdp_md *ctx, const struct xdp_control *us)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;

	if ((void *)(ip + 1) > data_end || !bpf_map_lookup_elem(&virtual_addresses, &ip->daddr))
		return XDP_PASS;
	/* Of a later fragment nobody knows the port. Without its first one it comes to nothing. */
	if (ip->frag_off & BE16(IPV4_OFFSET_MASK))
		return XDP_PASS;

	struct ports *ports = (void *)ip + ip->ihl * 4;

	if (ip->ihl >= 5 && (void *)(ports + 1) <= data_end &&
	    find_server(us, ip->daddr, ports->destination) == NO_SERVER)
		return XDP_PASS;
	return to_engine(ctx, us, 0, XDP_TO_ENGINE_ODD);
}

/* An ICMP error about a packet of a virtual server, to the worker that has the session. */
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
			return XDP_PASS;
		place_of(us, BE32(inner->daddr), BE16(ports->destination), server, &place);
	}
	return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_ICMP);
}

/* A notice, to the worker that has the session; a report, which has none, to the first. */
static __noinline int receive_ixcp(struct xdp_md *ctx, const struct xdp_control *us)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;
	struct ixcp_hdr *ixcp = (void *)(ip + 1);
	struct place place = {};

	if ((void *)ixcp > data_end || ip->daddr != us->own)
		return XDP_PASS;
	if (ip->ihl == 5 && (void *)(ixcp + 1) <= data_end && ixcp->type != IXCP_REPORT) {
		__u32 server = find_server(us, ixcp->virtual_addr, ixcp->virtual_port);

		if (server != NO_SERVER) {
			place_of(us, BE32(ixcp->client), BE16(ixcp->client_port), server, &place);
			return receive_notice(ctx, us, &place);
		}
	}
	return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_IXCP);
}

/* A segment of a session whose action says that the kernel has to do with it. */
static __always_inline int receive_session(struct xdp_md *ctx, struct xdp_control *us,
                                           struct session_record *record, __u8 action,
                                           const struct segment *segment, const struct place *place)
{
	__u32 worker = place->worker;
	__u8 notable = segment->flags & (TCP_SYN | TCP_FIN | TCP_RST);
	int alone = 0;

	int answered = action & ACTION_ANSWERED && acknowledges_answer(record, segment);

	if (notable == TCP_FIN && (action & ACTION_FORWARD || answered) &&
	    report_fin(ctx, record, worker)) {
		record->last_seen = tick_ms();
		record->packets++;
		count(XDP_FIN_FORWARDED);
		return forward(ctx, us, record, segment, worker);
	}
	if (notable == TCP_SYN && !(segment->flags & TCP_ACK) && record->state == SESSION_LINGERING &&
	    segment->seq != record->client_isn && !us->half_open[worker & (MAX_WORKERS - 1)])
		return receive_syn(ctx, us, place, record);
	if (notable) {
		__u32 why = notable & TCP_SYN   ? XDP_TO_ENGINE_SYN
		            : notable & TCP_FIN ? XDP_TO_ENGINE_FIN
		                                : XDP_TO_ENGINE_RST;
		int verdict = to_engine(ctx, us, worker, why);

		if (verdict != XDP_DROP || !(action & ACTION_FORWARD) ||
		    (notable != TCP_FIN && notable != TCP_RST))
			return verdict;
		alone = 1;
	} else if (answered) {
		/* As if the node had confirmed. */
	} else if (action & ACTION_WRAP) {
		int verdict = wrap(ctx, us, record);

		return verdict == XDP_PASS ? to_engine(ctx, us, worker, XDP_TO_ENGINE_STATE)
		                           : verdict;
	} else if (!(action & ACTION_FORWARD)) {
		return to_engine(ctx, us, worker, XDP_TO_ENGINE_STATE);
	}
	if (!alone && action & ACTION_PAYLOAD_UP && segment->payload > 0) {
		int verdict = to_engine(ctx, us, worker, XDP_PAYLOAD_UP);

		if (verdict != XDP_DROP)
			return verdict;
		alone = 1;
	}

	/* An RST must not keep alive what it ends. */
	if (notable != TCP_RST)
		record->last_seen = tick_ms();
	record->packets++;
	if (follow(record, segment))
		record->flags |= SESSION_CLIENT_FIN;
	if (alone)
		count(XDP_FORWARDED_ALONE);
	return forward(ctx, us, record, segment, worker);
}

static __always_inline int receive_tcp(struct xdp_md *ctx, struct xdp_control *us)
{
	struct segment segment;

	if (!parse_segment((void *)(long)ctx->data, (void *)(long)ctx->data_end, &segment))
		return receive_odd(ctx, us);

	__u32 server = find_server(us, segment.ip->daddr, segment.tcp->dest);

	if (server == NO_SERVER)
		return XDP_PASS;

	struct place place;

	place_of(us, BE32(segment.ip->saddr), BE16(segment.tcp->source), server, &place);

	struct session_record *record = find(us, &place);

	if (record) {
		__u8 action = *(volatile __u8 *)&record->action;

		if (action)
			return receive_session(ctx, us, record, action, &segment, &place);
		if (record->state == SESSION_LINGERING ? absorb_early(ctx, us) : absorb(ctx, record))
			return XDP_DROP;
		return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_STATE);
	}
	if ((segment.flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) == TCP_SYN)
		return receive_syn(ctx, us, &place, NULL);
	if (absorb_early(ctx, us))
		return XDP_DROP;
	return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_UNKNOWN);
}

/*
 * Does a frame leave the machine, by the stack or without it? What goes to the engine, or is the
 * stack's own, is for our MAC address still.
 */
static __noinline int sends(struct xdp_md *ctx, const struct xdp_control *us, int verdict)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	return verdict == XDP_TX ||
	       (verdict != XDP_DROP && (void *)(eth + 1) <= (void *)(long)ctx->data_end &&
	        !is_ours(us, eth));
}

/* A frame for one of our MAC addresses. */
static __always_inline int receive(struct xdp_md *ctx, struct xdp_control *us)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	if (eth->h_proto == BE16(ETH_P_8021Q)) {
		if (!untag(ctx))
			return XDP_PASS;
	} else if (eth->h_proto != BE16(ETH_P_IP)) {
		return XDP_PASS;
	}

	struct iphdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end || ip->version != 4)
		return XDP_PASS;
	switch (ip->protocol) {
	case IPPROTO_TCP:
		return receive_tcp(ctx, us);
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

	/* What the engine gets is as it came. */
	if (tapped && sends(ctx, us, verdict))
		tap_frame(ctx, TAP_KERNEL);
	return verdict;
}
