/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A verified IXP frame, and the possible outcomes: drop, pass, wait, or answer with a notice. */
#ifndef BATON_FRAME_H
#define BATON_FRAME_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "notice.h"
#include "packet.h"
#include "translate.h"

/*
 * A function that the verifier checks by itself, once. Before Linux 5.12 such a function takes no
 * pointers but that of the frame, and 6.1 takes no key of a map from what they point to. So there
 * it is checked where it is called.
 */
#ifdef BATON_WITHOUT_ADOPTION
#define HANDLER static __noinline int
#else
#define HANDLER __noinline int
#endif

/* The content of a verified IXP frame. Packet pointers become invalid with the first change. */
struct ixp_frame {
	struct ixp_hdr ixp __attribute__((aligned(4)));
	struct session_key tuple;
	__be32 seq, ack;
	__u8 mac[ETH_ALEN];     /* of the balancer */
	__u8 own_mac[ETH_ALEN]; /* of this interface */
	__u8 flags;             /* of the segment, TCP_* */
	__u8 waits;             /* how often it has waited for its four-tuple to be cleared */
	__u8 header;            /* bytes of the segment's TCP header */
	__u8 ipv6;              /* 1: IPv6, and the addresses below are valid */
	__be16 answers;         /* of the notice that answers it */
	__u32 payload;
	struct in6_addr client, virtual_addr;
};

/*
 * The outcome of a frame is a verdict of tc, or ANSWER with the notice to send. One place builds
 * the notice, because that is the largest piece of the program.
 */
#define ANSWER 0x100
/* Of segments that the shim makes: the socket may send whatever it has. */
#define WIDEST_WINDOW 0xffff
#define REFUSE(reason) (ANSWER | IXCP_REFUSED | IXCP_REASON_##reason << 4)

static __always_inline int drop(__u32 counter)
{
	count(counter);
	return TC_ACT_SHOT;
}

static __always_inline int is_ipv6(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_IPV6);
}

/* Where the TCP header of a segment without IXP begins. */
static __always_inline __u32 tcp_offset(const struct __sk_buff *skb)
{
	return is_ipv6(skb) ? TCP_OFFSET_6 : TCP_OFFSET;
}

static __always_inline int strip6(struct __sk_buff *skb)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + IPV4_OFFSET;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;
	ip->nexthdr = IPPROTO_TCP;
	ip->payload_len = bpf_htons(bpf_ntohs(ip->payload_len) - IXP_LENGTH);
	return 0;
}

/* Removes the IXP header, which leaves the segment that the client sent. Returns 0, or -1. */
static __always_inline int strip(struct __sk_buff *skb)
{
	if (bpf_skb_adjust_room(skb, -IXP_LENGTH, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return -1;
	if (is_ipv6(skb))
		return strip6(skb);

	void *data = (void *)(long)skb->data;
	struct iphdr *ip = data + IPV4_OFFSET;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;

	/* Time to live and protocol share one word of the checksum. */
	__u16 old_word = bpf_htons(ip->ttl << 8 | BATON_IPPROTO_IXP);
	__u16 new_word = bpf_htons(ip->ttl << 8 | IPPROTO_TCP);
	__be16 old_length = ip->tot_len;
	__be16 new_length = bpf_htons(bpf_ntohs(old_length) - IXP_LENGTH);

	ip->check = checksum_replace(ip->check, old_word, new_word);
	ip->check = checksum_replace(ip->check, old_length, new_length);
	ip->protocol = IPPROTO_TCP;
	ip->tot_len = new_length;
	return 0;
}

/* Gives the segment of a frame to the socket of its session. */
static __always_inline int strip_and_pass(struct __sk_buff *skb, const struct ixp_frame *frame,
                                          struct session *session, __u32 counter)
{
	if (strip(skb))
		return drop(SHIM_DROP_REWRITE);
	if (session->translation.on &&
	    translate(skb, &session->translation, tcp_offset(skb), frame->header, TO_SOCKET))
		return drop(SHIM_DROP_REWRITE);
	count(counter);
	return TC_ACT_OK;
}

/*
 * Lets a copy of the frame wait in the backlog of this CPU, with this mark, while the frame itself
 * becomes a bare segment for the socket of its four-tuple. That segment never leaves the machine.
 */
static __always_inline int tell_and_wait(struct __sk_buff *skb, const struct ixp_frame *frame,
                                         __u32 seq, __u32 ack, __u8 flags, __u16 window, __u32 mark)
{
	union {
		struct bare_packet ipv4;
		struct bare_packet6 ipv6;
	} packet = {};
	__u32 bytes = sizeof(packet.ipv4);

	if (frame->ipv6) {
		fill_bare6(&packet.ipv6, &frame->client, &frame->virtual_addr, &frame->tuple, seq,
		           ack, flags, window);
		bytes = sizeof(packet.ipv6);
	} else {
		fill_bare(&packet.ipv4, &frame->tuple, seq, ack, flags, window);
	}
	skb->mark = mark;

	long error = bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);

	skb->mark = 0;
	if (error)
		return drop(SHIM_DROP_CLONE);
	if (bpf_skb_change_tail(skb, IPV4_OFFSET + bytes, 0) ||
	    bpf_skb_store_bytes(skb, IPV4_OFFSET, &packet, bytes, BPF_F_RECOMPUTE_CSUM))
		return drop(SHIM_DROP_REWRITE);
	return TC_ACT_OK;
}

/* The same with a segment that ends the socket. Nobody hears an answer to it. */
static __always_inline int end_and_wait(struct __sk_buff *skb, const struct ixp_frame *frame,
                                        __u32 seq, __u32 ack, __u8 flags, __u32 mark)
{
	return tell_and_wait(skb, frame, seq, ack, flags, flags & TCP_ACK ? WIDEST_WINDOW : 0,
	                     mark);
}

/* Has the next segment of the session's socket confirm to the balancer. */
static __always_inline void request_confirmation(struct session *session,
                                                 const struct ixp_frame *frame)
{
	__u32 confirm = bpf_ntohl(frame->ixp.confirm);

	if (seq_diff(confirm, session->confirm) > 0)
		session->confirm = confirm;
	/* Egress reads `asked` before `confirm`: if it sees the new count, it sees the new mark. */
	__sync_fetch_and_add(&session->asked, 1);
}

/*
 * Answers an IXP frame with a notice. There is no segment of a socket to quote. `seq` and `ack` are
 * those of a socket that has accepted nothing of the frame.
 */
HANDLER answer(struct __sk_buff *skb, struct ixp_frame *frame, int outcome)
{
	const struct shim_config *config = get_config();

	if (!frame || !config)
		return drop(SHIM_DROP_UNCONFIGURED);

	struct notice notice = {
		.type = outcome & 0xf,
		.reason = outcome >> 4 & 0xf,
		.session = frame->ixp.session,
		.balancer = frame->ixp.balancer,
		.tuple = frame->tuple,
		.seq = frame->ack,
		.ack = frame->seq,
		.answers = frame->answers,
	};

	__builtin_memcpy(notice.mac, frame->mac, ETH_ALEN);
	__builtin_memcpy(notice.own_mac, frame->own_mac, ETH_ALEN);
	return send_notice(skb, config, &notice, 1);
}

#endif
