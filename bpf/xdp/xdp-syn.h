/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers a SYN: the frame becomes the SYN/ACK and goes back. The program reports the SYN to the
 * engine through a ring buffer. If the engine is absent or wants no more half-open sessions,
 * nothing is kept of the SYN. The sequence number is a cookie in both cases: if the engine ends
 * before it reads the event, the next engine continues from the client's next segment. The SYN/ACK
 * equals that of src/engine/client-writer.ts, byte for byte.
 */
#ifndef BATON_XDP_SYN_H
#define BATON_XDP_SYN_H

#include "cookie.h"
#include "xdp-session.h"

/* The length of the options of a SYN/ACK, as writeSynAckOptions writes them. */
static __always_inline __u32 answer_option_bytes(__u8 flags)
{
	__u32 bytes = 4;

	if (flags & IXP_TSTAMP_OK)
		bytes += 12;
	else if (flags & IXP_SACK_OK)
		bytes += 4;
	return flags & IXP_WSCALE_OK ? bytes + 4 : bytes;
}

/* Writes one word of options. False at the end of the frame, which a frame of right length never
 * reaches. */
static __always_inline int put(__be32 **at, const void *data_end, __u32 word, __u64 *sum)
{
	__be32 *to = *at;

	if ((const void *)(to + 1) > data_end)
		return 0;
	*to = BE32(word);
	*sum += BE32(word);
	*at = to + 1;
	return 1;
}

static __always_inline int put_options(__be32 *at, const void *data_end,
                                       const struct xdp_control *us, const struct kernel_event *syn,
                                       __u32 tsval, __u64 *sum)
{
	int sack = syn->flags & IXP_SACK_OK;

	if (!put(&at, data_end, 0x02040000 | us->mss, sum))
		return 0;
	if (syn->flags & IXP_TSTAMP_OK) {
		if (!put(&at, data_end, sack ? 0x0402080a : 0x0101080a, sum) ||
		    !put(&at, data_end, tsval, sum) || !put(&at, data_end, syn->tsval, sum))
			return 0;
	} else if (sack) {
		if (!put(&at, data_end, 0x01010402, sum))
			return 0;
	}
	return !(syn->flags & IXP_WSCALE_OK) ||
	       put(&at, data_end, 0x01030300 | us->window_shift, sum);
}

/*
 * Turns a SYN into its SYN/ACK. The frame has the length of the answer already. With `unfinished`,
 * the checksum is left to hardware, as in the SYN. The socket buffer knows where it is: both TCP
 * headers begin at the same offset.
 */
static __noinline int write_answer(struct xdp_md *ctx, const struct xdp_control *us,
                                   const struct kernel_event *syn, __u32 ms, int unfinished)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)((char *)eth + IPV4_OFFSET);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > data_end)
		return 0;

	__u32 bytes = TCP_BYTES + answer_option_bytes(syn->flags);
	__be32 client = ip->saddr, virtual_addr = ip->daddr;
	__be16 client_port = tcp->source, virtual_port = tcp->dest;
	__be32 *word = (void *)tcp;
	__u64 pseudo_sum = pseudo_header(virtual_addr, client, bytes);
	__u64 sum = pseudo_sum;

	__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, syn->mac, ETH_ALEN);
	fill_ipv4(ip, virtual_addr, client, IPPROTO_TCP, (__u16)(IPV4_BYTES + bytes));
	tcp->source = virtual_port;
	tcp->dest = client_port;
	tcp->seq = BE32(syn->server_isn);
	tcp->ack_seq = BE32(syn->client_isn + 1);
	word[3] = BE32(bytes << 26 | (TCP_SYN | TCP_ACK) << 16 | us->window);
	word[4] = 0;
	sum += (__u64)word[0] + word[1] + word[2] + word[3];
	if (!put_options(word + 5, data_end, us, syn, syn->ts_offset + ms, &sum))
		return 0;
	tcp->check = unfinished ? (__u16)~checksum_fold64(pseudo_sum) : checksum_fold64(sum);
	return 1;
}

/* Reports an event to the engine without waking it. False when the ring buffer has no room. */
static __always_inline int report_event(struct xdp_md *ctx, __u32 worker,
                                        struct kernel_event *record)
{
	__u32 socket = ctx->rx_queue_index * MAX_WORKERS + worker;
	void *ring = bpf_map_lookup_elem(&events, &worker);

	if (!ring || !bpf_map_lookup_elem(&xsks, &socket))
		return 0;
	return bpf_ringbuf_output(ring, record, sizeof(*record), BPF_RB_NO_WAKEUP) == 0;
}

/*
 * The result of parse_options for the frame, without the withheld options. The lengths of the
 * segment are right. The function is global, so that the verifier checks it once, separately,
 * and not for each path to it.
 */
__noinline __u64 syn_options(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct tcphdr *tcp = (void *)(long)ctx->data + IPV4_OFFSET + IPV4_BYTES;

	__u32 zero = 0;
	/* Looked up again, because the caller has no stack left to pass it. */
	const struct xdp_control *us = bpf_map_lookup_elem(&control, &zero);

	if ((void *)(tcp + 1) > data_end || !us)
		return 0;
	return parse_options(tcp + 1, (tcp->doff * 4 - TCP_BYTES) & 63, data_end) &
	       ~((__u64)us->withheld << OPTIONS_FLAGS_SHIFT);
}

/* As separate functions, these do not spill registers onto the caller's stack. */
static __noinline __u64 hash_of(const struct xdp_control *us, const struct syn_tuple *tuple)
{
	return tuple_hash(us->secret, tuple);
}

static __noinline __u32 bits_of(const struct kernel_event *syn)
{
	return cookie_bits(syn->mss, syn->scales, syn->flags);
}

static __noinline __u32 cookie(const struct xdp_control *us, const struct syn_tuple *tuple,
                               __u32 bits, __u32 ms)
{
	return cookie_isn(us->secret + BATON_KEY_BYTES, tuple, bits, ms);
}

static __noinline int is_sent(const struct xdp_control *us, const struct syn_tuple *tuple,
                              __u32 isn, __u32 ms)
{
	return is_cookie(us->secret + BATON_KEY_BYTES, tuple, isn, ms);
}

/*
 * Handles a SYN with right flags and lengths, if the virtual server has no session of this client
 * and port, or if that session, `old`, has ended and there is room for a new one.
 *
 * The old session gives way (RFC 9293 section 3.6.1). The kernel does nothing for it from now on,
 * so that the client's next segments do not reach the old session's node. The engine replaces it
 * when it reads the event.
 */
static __noinline int receive_syn(struct xdp_md *ctx, struct xdp_control *us,
                                  const struct place *place, struct session_record *old)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct segment segment;
	__u64 options;
	__u32 ms = clock_ms();
	int age = seq_diff(ms, us->alive_at);

	if (age > SYN_ALIVE_MS || age < -SYN_ALIVE_MS) {
		count(XDP_DROP_NOT_ALIVE);
		return XDP_DROP;
	}
	/* The engine handles errors, SYNs with payload, and those of retired virtual servers. */
	if (!parse_segment((void *)(long)ctx->data, data_end, &segment) || segment.payload > 0 ||
	    !verify_bare(&segment, data_end) ||
	    is_retired(us, segment.ip->daddr, segment.tcp->dest) || !(options = syn_options(ctx)))
		return to_engine(ctx, us, place->worker, XDP_TO_ENGINE_SYN);

	/* Native XDP sends a frame without a socket buffer, so nothing would finish its checksum.
	 */
	int unfinished = us->output & OUTPUT_GENERIC && is_unfinished(&segment);

	/* One right checksum in 65536 looks unfinished. The engine's answer is a frame of its own,
	 * which is right in both cases. */
	if (unfinished && is_finished(&segment, data_end))
		return to_engine(ctx, us, place->worker, XDP_TO_ENGINE_SYN);

	__u8 flags = offered_flags(options);
	struct syn_tuple tuple = {
		.client = BE32(segment.ip->saddr),
		.virtual_addr = BE32(segment.ip->daddr),
		.ports = (__u32)BE16(segment.tcp->source) << 16 | BE16(segment.tcp->dest),
		.client_isn = segment.seq,
	};
	struct kernel_event syn = {
		.client = place->client,
		.port_server = place->port_server,
		.client_isn = segment.seq,
		.ts_offset = (__u32)(hash_of(us, &tuple) >> 32),
		.tsval = offered_tsval(options),
		.mss = offered_mss(options),
		.window = BE16(segment.tcp->window),
		.scales = flags & IXP_WSCALE_OK
		                  ? (__u8)(offered_window_shift(options) << 4 | us->window_shift)
		                  : 0,
		.flags = flags,
	};
	int longer = IPV4_OFFSET + IPV4_BYTES + TCP_BYTES + (int)answer_option_bytes(flags) -
	             (int)(ctx->data_end - ctx->data);

	__builtin_memcpy(syn.mac, segment.eth->h_source, ETH_ALEN);
	syn.server_isn = cookie(us, &tuple, bits_of(&syn), ms);
	/* Before any event or count: only this can still fail. */
	if (longer != 0 && bpf_xdp_adjust_tail(ctx, longer))
		return to_engine(ctx, us, place->worker, XDP_TO_ENGINE_SYN);

	/* Before the event: after it, the record may belong to another session. */
	__u8 action = old ? old->action : 0;

	if (old)
		*(volatile __u8 *)&old->action = 0;
	if (place->worker < MAX_WORKERS && !us->half_open[place->worker] &&
	    report_event(ctx, place->worker, &syn)) {
		count(XDP_SYN_ANSWERED);
	} else if (old) {
		*(volatile __u8 *)&old->action = action;
		/* A cookie alone would not do: the client's next segment would find the old record.
		 * The client sends the SYN again. */
		count(XDP_DROP_UNTOLD);
		return XDP_DROP;
	} else {
		/* 0 would mean never. All CPUs share the line, so it changes once a ms at most. */
		__u32 at = ms | (ms == 0);

		if (us->cookie_at != at)
			us->cookie_at = at;
		count(XDP_SYN_COOKIE);
	}
	if (!write_answer(ctx, us, &syn, ms, unfinished))
		return XDP_DROP;
	return send_through(ctx, ctx->ingress_ifindex, us->output & OUTPUT_REDIRECT);
}

/* True for an ACK without payload and other flags, which may end a handshake. */
static __always_inline int is_bare_ack(const struct segment *segment)
{
	return (segment->flags & (TCP_ACK | TCP_SYN | TCP_FIN | TCP_RST)) == TCP_ACK &&
	       segment->payload == 0;
}

/*
 * Absorbs the ACK that ends the handshake of a half-open session. The request, right behind the
 * ACK, carries the same acknowledgement, so the ACK need not wake the engine. The record keeps it,
 * for a client that sends nothing else. True if the ACK was absorbed.
 */
static __noinline int absorb(struct xdp_md *ctx, struct session_record *record)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct segment segment;

	if (record->state != SESSION_SYN_RECEIVED ||
	    !parse_segment((void *)(long)ctx->data, data_end, &segment) || !is_bare_ack(&segment) ||
	    segment.seq != record->client_isn + 1 || segment.ack != record->server_isn + 1 ||
	    !verify_bare(&segment, data_end))
		return 0;
	record->client_ack = segment.ack;
	count(XDP_ABSORBED);
	return 1;
}

/*
 * The same before the engine has read the event of the SYN, so that there is no record yet: the ACK
 * acknowledges a number that was sent to this client lately. Not while SYNs are answered without an
 * event: the engine would never know of a client that sends nothing else.
 */
static __noinline int absorb_early(struct xdp_md *ctx, const struct xdp_control *us)
{
	struct segment segment;
	__u32 ms = clock_ms();

	if (us->cookie_at && elapsed(ms, us->cookie_at) < COOKIE_LIFE_MS)
		return 0;
	if (!parse_segment((void *)(long)ctx->data, (void *)(long)ctx->data_end, &segment) ||
	    !is_bare_ack(&segment))
		return 0;

	struct syn_tuple tuple = {
		.client = BE32(segment.ip->saddr),
		.virtual_addr = BE32(segment.ip->daddr),
		.ports = (__u32)BE16(segment.tcp->source) << 16 | BE16(segment.tcp->dest),
		.client_isn = segment.seq - 1,
	};

	if (!is_sent(us, &tuple, segment.ack - 1, ms))
		return 0;
	count(XDP_ABSORBED);
	return 1;
}

/*
 * Reports an in-sequence FIN of a client whose session passes, without waking the engine. False,
 * without any change, if the engine must see the segment itself.
 */
static __noinline int report_fin(struct xdp_md *ctx, struct session_record *record, __u32 worker)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct segment segment;

	if (!parse_segment((void *)(long)ctx->data, data_end, &segment) || segment.payload > 0 ||
	    !(segment.flags & TCP_ACK) || segment.seq != record->receive_next ||
	    !verify_bare(&segment, data_end))
		return 0;

	int acked = seq_diff(segment.ack, record->client_ack);

	if (acked > MAX_ADVANCE || acked < -MAX_ADVANCE)
		return 0;

	struct kernel_event fin = {
		.client = record->client,
		.port_server = record->port_server,
		.server_isn = record->nonce,
		.flags = EVENT_FIN,
	};

	if (worker >= MAX_WORKERS || !report_event(ctx, worker, &fin))
		return 0;
	if (acked > 0)
		record->client_ack = segment.ack;
	record->receive_next = segment.seq + 1;
	return 1;
}

#endif
