/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The end of sessions that the balancer answers itself (ACTION_CLOSING). The engine has sent an
 * answer and FIN. A client that takes both sends two more segments, and the engine sleeps through
 * both:
 *
 *     client                        balancer
 *       | <---- answer, FIN ---------- |   engine
 *       | ----- ACK of all of it ----> |   noted here, and dropped
 *       | ----- FIN -----------------> |   acknowledged here, and reported
 *       | <---- ACK ------------------ |
 *
 * Everything else goes to the engine. So does the ACK of a client that has sent its FIN before: it
 * ends the session.
 */
#ifndef BATON_XDP_CLOSING_H
#define BATON_XDP_CLOSING_H

#include "xdp-session.h"
#include "xdp-syn.h"

/* No-operation twice, then timestamps: RFC 7323 appendix A. All common systems send them so. */
#define TIMESTAMPS_WORD 0x0101080a
#define TIMESTAMPS_BYTES 12

/*
 * Turns the client's FIN into the ACK of it, which is what src/engine/client-writer.ts would send.
 * False, without any change, if the frame has another length than that ACK.
 */
static __always_inline int write_last_ack(struct xdp_md *ctx, const struct xdp_control *us,
                                          const struct session_record *record,
                                          const struct segment *segment)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)((char *)eth + IPV4_OFFSET);
	struct tcphdr *tcp = (void *)(ip + 1);
	__be32 *word = (void *)tcp;
	__u32 timestamps = record->flags & IXP_TSTAMP_OK ? TIMESTAMPS_BYTES : 0;
	__u32 bytes = TCP_BYTES + timestamps;

	if ((void *)(tcp + 1) > data_end || segment->total != IPV4_BYTES + bytes)
		return 0;
	if (timestamps && ((void *)(word + 8) > data_end || word[5] != BE32(TIMESTAMPS_WORD)))
		return 0;

	__be32 client = ip->saddr, virtual_addr = ip->daddr;
	__be16 client_port = tcp->source;
	__u64 sum = pseudo_header(virtual_addr, client, bytes);
	struct mac_words macs = *(struct mac_words *)eth;
	struct ethhdr *from = (void *)&macs;

	__builtin_memcpy(eth->h_dest, from->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, from->h_dest, ETH_ALEN);
	fill_ipv4(ip, virtual_addr, client, IPPROTO_TCP, (__u16)(IPV4_BYTES + bytes));
	tcp->source = tcp->dest;
	tcp->dest = client_port;
	tcp->seq = BE32(record->handed_to);
	tcp->ack_seq = BE32(segment->seq + 1);
	word[3] = BE32(bytes << 26 | TCP_ACK << 16 | us->window >> (record->scales & 15));
	word[4] = 0;
	sum += (__u64)word[0] + word[1] + word[2] + word[3];
	if (timestamps) {
		word[7] = word[6];
		word[6] = BE32(record->ts_offset + clock_ms());
		sum += (__u64)word[5] + word[6] + word[7];
	}
	tcp->check = checksum_fold64(sum);
	return 1;
}

/* Handles a segment of a session with ACTION_CLOSING. */
static __noinline int receive_closing(struct xdp_md *ctx, const struct xdp_control *us,
                                      struct session_record *record, __u32 worker)
{
	struct segment segment;

	if (!parse_segment((void *)(long)ctx->data, (void *)(long)ctx->data_end, &segment))
		return to_engine(ctx, us, worker, XDP_TO_ENGINE_STATE);

	__u8 flags = segment.flags & (TCP_ACK | TCP_SYN | TCP_FIN | TCP_RST);
	__u32 why = flags & TCP_SYN   ? XDP_TO_ENGINE_SYN
	            : flags & TCP_RST ? XDP_TO_ENGINE_RST
	            : flags & TCP_FIN ? XDP_TO_ENGINE_FIN
	                              : XDP_TO_ENGINE_STATE;

	if ((flags & ~TCP_FIN) != TCP_ACK || segment.payload > 0 ||
	    segment.seq != record->receive_next || segment.ack != record->handed_to ||
	    !verify_bare(&segment, (void *)(long)ctx->data_end))
		return to_engine(ctx, us, worker, why);
	if (!(flags & TCP_FIN)) {
		if (record->flags & SESSION_CLIENT_FIN)
			return to_engine(ctx, us, worker, why);
		record->client_ack = segment.ack;
		record->last_seen = tick_ms();
		count(XDP_ABSORBED);
		return XDP_DROP;
	}

	struct kernel_event fin = {
		.client = record->client,
		.port_server = record->port_server,
		.server_isn = record->nonce,
		.flags = EVENT_FIN,
	};

	/* Generic XDP: the socket buffer says that the checksum is still to be finished. */
	if (us->output & OUTPUT_GENERIC || !write_last_ack(ctx, us, record, &segment))
		return to_engine(ctx, us, worker, why);
	record->client_ack = segment.ack;
	record->receive_next = segment.seq + 1;
	record->last_seen = tick_ms();
	if (worker >= MAX_WORKERS || !report_event(ctx, worker, &fin)) {
		/* The engine does not know of the FIN, so the client must send it again. */
		record->receive_next = segment.seq;
		count(XDP_DROP_UNTOLD);
		return XDP_DROP;
	}
	count(XDP_FIN_ANSWERED);
	return send_through(ctx, ctx->ingress_ifindex, us->output & OUTPUT_REDIRECT);
}

#endif
