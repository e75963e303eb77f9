// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The shim between wire and stack of a node. Ingress verifies IXP frames and gives the segment
 * inside to the stack. Egress watches the segments that sessions send to their clients, and sends
 * notices to the balancer. Both translate the segments of sessions whose socket has other numbers
 * than the client. All other frames pass unchanged, after one check of the protocol (ingress) or
 * one map look-up (egress).
 *
 * Both are attached to clsact with direct action and priority 2. Needs kernel 6.9, for adopting;
 * shim-replay.bpf.c and shim-old.bpf.c are the same program without what older kernels lack.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "adopt.h"
#include "carry.h"
#include "errors.h"
#include "kernel.h"
#include "maps.h"
#include "notice.h"
#include "parse.h"
#include "query.h"
#include "release.h"
#include "replay.h"
#include "segment.h"
#include "translate.h"
#ifndef BATON_WITHOUT_LOOP
#include "follow.h"
#include "leave.h"
#include "park.h"
#include "resume.h"
#endif

char _license[] SEC("license") = "Dual BSD/GPL";

/* Makes the first `bytes` of the frame readable at `data`. Packet pointers become invalid. */
static __always_inline int pull(struct __sk_buff *skb, __u32 bytes)
{
	return (void *)(long)skb->data + bytes > (void *)(long)skb->data_end
	               ? (int)bpf_skb_pull_data(skb, bytes)
	               : 0;
}

/* Makes the headers of a TCP segment readable. Packet pointers become invalid. */
static __always_inline void pull_segment(struct __sk_buff *skb)
{
	pull(skb, is_ipv6(skb) ? TCP_FRAME_BYTES_6 : TCP_FRAME_BYTES);
}

static __always_inline int is_ip(struct __sk_buff *skb)
{
	return (skb->protocol == bpf_htons(ETH_P_IP) || is_ipv6(skb)) &&
	       !of_another_vlan(skb->vlan_present, skb->vlan_tci);
}

static __always_inline int protocol_of(struct __sk_buff *skb)
{
	const void *data = (void *)(long)skb->data;
	const void *data_end = (void *)(long)skb->data_end;
	const struct ipv6hdr *ip = data + IPV4_OFFSET;

	if (!is_ipv6(skb))
		return parse_protocol(data, data_end);
	return (const void *)(ip + 1) > data_end ? -1 : ip->nexthdr;
}

/* The part of a frame that follows its IP header. */
static __always_inline void take_segment(struct ixp_frame *frame, const struct ethhdr *eth,
                                         const struct tcphdr *tcp, __u32 payload)
{
	frame->tuple.client_port = tcp->source;
	frame->tuple.virtual_port = tcp->dest;
	frame->seq = tcp->seq;
	frame->ack = tcp->ack_seq;
	frame->flags = tcp_flags(tcp);
	frame->payload = payload;
	frame->header = tcp->doff * 4;
	__builtin_memcpy(frame->own_mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(frame->mac, eth->h_source, ETH_ALEN);
}

static __always_inline int is_known_balancer(const struct ixp_frame *frame)
{
	__be32 balancer = frame->ixp.balancer;

	return bpf_map_lookup_elem(&balancers, &balancer) != NULL;
}

/* As `verify`, for IPv6. */
static __noinline int verify6(struct __sk_buff *skb, const struct shim_config *config,
                              struct ixp_frame *frame)
{
	struct ixp_view6 view;

	pull(skb, IXP_FRAME_BYTES_6);

	int error =
		parse_ixp6((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, &view);

	if (error != PARSE_OK)
		return error;
	__builtin_memcpy(&frame->ixp, view.ixp, IXP_LENGTH);
	frame->ipv6 = 1;
	frame->client = view.ip->saddr;
	frame->virtual_addr = view.ip->daddr;
	frame->tuple.client = alias_of(&frame->client, config->alias);
	frame->tuple.virtual_addr = alias_of(&frame->virtual_addr, config->alias);
	take_segment(frame, view.eth, view.tcp, view.payload);
	if (!is_known_balancer(frame))
		return SHIM_DROP_UNKNOWN_BALANCER;
	if (ixp_tag6(config->key, &frame->client, &frame->virtual_addr, &frame->tuple, frame->seq,
	             frame->ack, &frame->ixp) != frame->ixp.tag)
		return SHIM_DROP_TAG;
	return PARSE_OK;
}

/*
 * Parses and verifies an IXP frame. Returns PARSE_OK, or the counter of the error. It has a stack
 * of its own, which is free again before the frame is handled.
 */
static __noinline int verify(struct __sk_buff *skb, const struct shim_config *config,
                             struct ixp_frame *frame)
{
	struct ixp_view view;

	/* If this fails, the frame is too short, and the parser reports that. */
	pull(skb, IXP_FRAME_BYTES);

	int error =
		parse_ixp((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, &view);

	if (error != PARSE_OK)
		return error;

	__builtin_memcpy(&frame->ixp, view.ixp, IXP_LENGTH);
	frame->tuple.client = view.ip->saddr;
	frame->tuple.virtual_addr = view.ip->daddr;
	take_segment(frame, view.eth, view.tcp, view.payload);
	if (!is_known_balancer(frame))
		return SHIM_DROP_UNKNOWN_BALANCER;
	if (ixp_tag(config->key, &frame->tuple, frame->seq, frame->ack, &frame->ixp) !=
	    frame->ixp.tag)
		return SHIM_DROP_TAG;
	return PARSE_OK;
}

/* Handles a TCP segment without IXP. */
static __noinline int receive_plain(struct __sk_buff *skb)
{
	struct tcp_view view;

	if (!is_watching())
		return TC_ACT_OK;
	pull_segment(skb);
	if (parse_segment(skb, &view) != PARSE_OK)
		return TC_ACT_OK;

	const struct shim_config *config = get_config();

	if (!config)
		return TC_ACT_OK;

	struct session_key tuple = tuple_of(&view, config);
	struct session *session = bpf_map_lookup_elem(&sessions, &tuple);

	if (!session)
		return TC_ACT_OK;

	__u32 header = view.tcp->doff * 4;

	if (session->parking.tell) {
		__u32 bytes = (view.ipv6 ? bpf_ntohs(view.ip6->payload_len)
		                         : bpf_ntohs(view.ip->tot_len) - IPV4_BYTES) -
		              header;

		note_payload(session, bpf_ntohl(view.tcp->seq), bytes,
		             !!(tcp_flags(view.tcp) & TCP_FIN), 0);
	}
	if (!session->translation.on)
		return TC_ACT_OK;
	if (translate(skb, &session->translation, tcp_offset(skb), header, TO_SOCKET))
		return drop(SHIM_DROP_REWRITE);
	return TC_ACT_OK;
}

SEC("tc")
int shim_ingress(struct __sk_buff *skb)
{
	struct ixp_frame frame = {};

	if (!is_ip(skb))
		return TC_ACT_OK;
	if (skb->mark == BATON_MARK_RETRY || skb->mark == BATON_MARK_AGAIN) {
		frame.waits = skb->mark - BATON_MARK_RETRY + 1;
		skb->mark = 0;
	}
	pull(skb, IPV4_OFFSET + (is_ipv6(skb) ? IPV6_BYTES : IPV4_BYTES));

	int protocol = protocol_of(skb);

	if (protocol == BATON_IPPROTO_IXP && !is_ipv6(skb)) {
		pull(skb, CARRIED_OFFSET);
		if (is_carried(skb)) {
			protocol = uncarry(skb);
			if (protocol < 0)
				return drop(-protocol);
			pull(skb, IPV4_OFFSET + IPV4_BYTES);
		}
	}
	if (protocol == IPPROTO_TCP)
		return receive_plain(skb);
	if (protocol == IPPROTO_ICMP && !is_ipv6(skb))
		return receive_error(skb);
	if (protocol == IPPROTO_ICMPV6 && is_ipv6(skb))
		return receive_error6(skb);
	if (protocol != BATON_IPPROTO_IXP)
		return TC_ACT_OK;

	const struct shim_config *config = get_config();

	if (!config)
		return drop(SHIM_DROP_UNCONFIGURED);

	int error = is_ipv6(skb) ? verify6(skb, config, &frame) : verify(skb, config, &frame);

	if (error != PARSE_OK)
		return drop(error);

	int outcome;

	switch (frame.ixp.type) {
	case IXP_ADOPT:
		outcome = adopt(skb, &frame);
		break;
	case IXP_REPLAY:
		outcome = replay(skb, &frame);
		break;
	case IXP_SEGMENT:
		outcome = pass_segment(skb, &frame);
		break;
	case IXP_RELEASE:
		outcome = release(skb, &frame);
		break;
	case IXP_QUERY:
		outcome = query(skb, &frame);
		break;
#ifndef BATON_WITHOUT_LOOP
	case IXP_LEAVE:
		outcome = leave(skb, &frame);
		break;
	case IXP_PARK:
		outcome = park(skb, &frame);
		break;
	case IXP_RESUME:
		outcome = resume(skb, &frame);
		break;
	case IXP_AWAKE:
		outcome = awake(&frame);
		break;
#endif
	default:
		outcome = drop(SHIM_DROP_TYPE);
	}
	return outcome & ANSWER ? answer(skb, &frame, outcome) : outcome;
}

/* Records that the socket of a session begins a response. */
static __always_inline void note_response(void)
{
	__u32 zero = 0;
	__u64 *at = bpf_map_lookup_elem(&last_answer, &zero);

	if (at)
		*at = bpf_ktime_get_ns();
}

SEC("tc")
int shim_egress(struct __sk_buff *skb)
{
	__u32 mark = skb->mark;
	struct tcp_view view;

	if (!is_ip(skb))
		return TC_ACT_OK;
	pull_segment(skb);
	if ((mark & ~0xffU) == BATON_MARK_NOTICE)
		return become_notice(skb);
	if (parse_segment(skb, &view) != PARSE_OK)
		return TC_ACT_OK;

	const struct shim_config *config = get_config();

	if (!config)
		return TC_ACT_OK;

	struct session_key tuple = reversed_tuple(&view, config);
	struct session *session = bpf_map_lookup_elem(&sessions, &tuple);

	if (!session)
		return TC_ACT_OK;

	__u32 header = view.tcp->doff * 4;
	__u32 headers = view.offset + header;
	__u8 flags = tcp_flags(view.tcp);
	__u32 about = 0;

	if (session->replay && (tcp_flags(view.tcp) & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
		return answer_syn(skb, session, (__u32)view.tcp->doff * 4);
#ifndef BATON_WITHOUT_LOOP
	if (session->follow) {
		__u32 seq = bpf_ntohl(view.tcp->seq);
		__u32 received = bpf_ntohl(view.tcp->ack_seq);

		if (session->left)
			return answer_left(skb, config, session, &tuple, &view);
		follow(skb, &session->answers, headers, seq);
		if (session->parking.tell)
			about = park_at_egress(skb, session, flags, seq, received, headers);
	}
#endif
	if (session->translation.on) {
		if (translate(skb, &session->translation, tcp_offset(skb), header, TO_CLIENT))
			return drop(SHIM_DROP_REWRITE);
		pull_segment(skb);
		if (parse_segment(skb, &view) != PARSE_OK)
			return drop(SHIM_DROP_REWRITE);
	}
	if (IS_HELD(about)) {
		count(SHIM_HELD);
		skb->mark = BATON_MARK_NOTICE | about;
		return become_notice(skb);
	}

	__u32 ack = bpf_ntohl(view.tcp->ack_seq);
	__u32 asked = *(volatile __u32 *)&session->asked;
	__u32 confirm = *(volatile __u32 *)&session->confirm;

	/* The client will soon acknowledge the start of a response, unless a FIN confirms first. */
	int client_confirms = session->client_confirms && asked == 1 &&
	                      seq_diff(bpf_ntohl(view.tcp->seq), session->notice_from) < 0;

	/* The balancer can give the request to another node. The client must not see that this one
	 * has failed. */
	if (session->hold_reset && !session->sent_payload && skb->len <= headers &&
	    flags & (TCP_RST | TCP_FIN)) {
		skb->mark = BATON_MARK_NOTICE | IXCP_RST | IXCP_REASON_HELD_BACK << 4;
		return become_notice(skb);
	}
	/* Written only once: ingress on another CPU uses the same cache line. */
	if (!session->sent)
		session->sent = 1;
	if (!session->sent_payload && skb->len > headers) {
		session->sent_payload = 1;
		note_response();
	}
	/* An RST confirms nothing. Its acknowledgement number may be meaningless. */
	if (flags & TCP_RST) {
		notify_balancer(skb, IXCP_RST, mark);
		return TC_ACT_OK;
	}
	int complete = seq_diff(ack, confirm) >= 0;
	/* IXCP_FIN and IXCP_ENDED say everything that IXCP_ADOPTED would. */
	int adopted_due = asked != session->answered && (flags & TCP_ACK) && !client_confirms;
	__u32 type = flags & TCP_FIN ? IXCP_FIN : about ? about : adopted_due ? IXCP_ADOPTED : 0;

	if (type != 0 && notify_balancer(skb, type, mark) && complete)
		session->answered = asked;
	return TC_ACT_OK;
}
