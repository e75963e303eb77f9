// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The shim between the wire and the stack of a node, and of the balancer for its own local
 * services. Ingress verifies IXP frames and gives the stack what is in them; egress watches the
 * sessions' segments to the client and tells the balancer what it must know. Everything that is
 * neither passes untouched after a look at its protocol, and at one map.
 *
 * Both expect clsact, direct action, priority 2, behind the guard of a balancer (priority 1).
 * Needs kernel 6.9.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "adopt.h"
#include "kernel.h"
#include "maps.h"
#include "notice.h"
#include "parse.h"
#include "release.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Makes the first `bytes` of the frame readable where data points to; packet pointers end here. */
static __always_inline int pull(struct __sk_buff *skb, __u32 bytes)
{
	return (void *)(long)skb->data + bytes > (void *)(long)skb->data_end
	               ? (int)bpf_skb_pull_data(skb, bytes)
	               : 0;
}

static __always_inline int is_ipv4(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IP) &&
	       !of_another_vlan(skb->vlan_present, skb->vlan_tci);
}

static __always_inline int protocol_of(struct __sk_buff *skb)
{
	return parse_protocol((void *)(long)skb->data, (void *)(long)skb->data_end);
}

/* PARSE_OK, or the counter of why the frame is not to be believed. */
static __always_inline int verify(struct __sk_buff *skb, const struct shim_config *config,
                                  struct handover *handover)
{
	struct ixp_view view;

	/* What can not be pulled is too short, as the parser finds. */
	pull(skb, IXP_FRAME_BYTES);

	int error =
		parse_ixp((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, &view);

	if (error != PARSE_OK)
		return error;

	__builtin_memcpy(&handover->ixp, view.ixp, IXP_LENGTH);
	handover->tuple.client = view.ip->saddr;
	handover->tuple.virtual_addr = view.ip->daddr;
	handover->tuple.client_port = view.tcp->source;
	handover->tuple.virtual_port = view.tcp->dest;
	handover->seq = view.tcp->seq;
	handover->ack = view.tcp->ack_seq;
	handover->flags = tcp_flags(view.tcp);
	handover->payload = view.payload;
	__builtin_memcpy(handover->own_mac, view.eth->h_dest, ETH_ALEN);
	__builtin_memcpy(handover->mac,
	                 config->flags & SHIM_LOCAL ? view.eth->h_dest : view.eth->h_source,
	                 ETH_ALEN);

	__be32 balancer = handover->ixp.balancer;

	if (!bpf_map_lookup_elem(&balancers, &balancer))
		return SHIM_DROP_UNKNOWN_BALANCER;
	if (ixp_tag(config->key, &handover->tuple, handover->seq, handover->ack, &handover->ixp) !=
	    handover->ixp.tag)
		return SHIM_DROP_TAG;
	return PARSE_OK;
}

SEC("tc")
int shim_ingress(struct __sk_buff *skb)
{
	struct handover handover = {};
	int injected = 0;

	if (!is_ipv4(skb))
		return TC_ACT_OK;
	if (skb->mark >= BATON_MARK_INJECT && skb->mark <= BATON_MARK_AGAIN) {
		handover.waits = skb->mark - BATON_MARK_INJECT;
		skb->mark = 0;
		injected = handover.waits == 0;
	}
	pull(skb, IPV4_OFFSET + IPV4_BYTES);
	if (protocol_of(skb) != BATON_IPPROTO_IXP) {
		if (injected)
			count(SHIM_INJECTED);
		return TC_ACT_OK;
	}

	const struct shim_config *config = get_config();

	if (!config)
		return drop(SHIM_DROP_UNCONFIGURED);

	int error = verify(skb, config, &handover);

	if (error != PARSE_OK)
		return drop(error);

	int outcome;

	switch (handover.ixp.type) {
	case IXP_ADOPT:
		outcome = adopt(skb, &handover);
		break;
	case IXP_SEGMENT:
		outcome = pass_segment(skb, &handover);
		break;
	case IXP_RELEASE:
		outcome = release(skb, &handover);
		break;
	default:
		outcome = drop(SHIM_DROP_TYPE);
	}
	return outcome & ANSWER ? answer(skb, config, &handover, outcome) : outcome;
}

static __always_inline void note_answer(void)
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

	if (!is_ipv4(skb))
		return TC_ACT_OK;
	pull(skb, TCP_FRAME_BYTES);
	if ((mark & ~0xffU) == BATON_MARK_NOTICE)
		return become_notice(skb);
	if (parse_tcp((void *)(long)skb->data, (void *)(long)skb->data_end, &view) != PARSE_OK)
		return TC_ACT_OK;

	struct session_key tuple = reversed_tuple(&view);
	struct session *session = bpf_map_lookup_elem(&sessions, &tuple);

	if (!session)
		return TC_ACT_OK;

	__u8 flags = tcp_flags(view.tcp);
	__u32 ack = bpf_ntohl(view.tcp->ack_seq);
	__u32 asked = *(volatile __u32 *)&session->asked;
	__u32 confirm = *(volatile __u32 *)&session->confirm;

	/*
	 * The beginning of an answer the client acknowledges soon, if its FIN does not tell before.
	 */
	int client_confirms = session->quiet && asked == 1 &&
	                      seq_diff(bpf_ntohl(view.tcp->seq), session->notice_from) < 0;

	/* Written once only: the line is shared with ingress on another CPU. */
	if (!session->sent)
		session->sent = 1;
	if (!session->begun && skb->len > TCP_FRAME_BYTES - TCP_BYTES + (__u32)view.tcp->doff * 4) {
		session->begun = 1;
		note_answer();
	}
	/* An RST confirms nothing, and its acknowledgement number may mean nothing. */
	if (flags & TCP_RST) {
		notify_balancer(skb, IXCP_RST, mark);
		return TC_ACT_OK;
	}
	int complete = seq_diff(ack, confirm) >= 0;
	/* A FIN says all that ADOPTED would. */
	int due = asked != session->answered && (flags & TCP_ACK) && !client_confirms;
	__u32 type = flags & TCP_FIN ? IXCP_FIN : due ? IXCP_ADOPTED : 0;

	if (type != 0 && notify_balancer(skb, type, mark) && complete)
		session->answered = asked;
	return TC_ACT_OK;
}
