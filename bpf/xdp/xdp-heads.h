/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Later requests of sessions that may move: the program forwards a head that the engine has judged
 * before, if the session's node may get it. Everything else goes to the engine
 * (src/engine/moving/following.ts).
 */
#ifndef BATON_XDP_HEADS_H
#define BATON_XDP_HEADS_H

#include "heads.h"
#include "xdp-session.h"

/* Which nodes may get this request? The loader sets the number of elements. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct judged_head);
} heads SEC(".maps");

/* What has the program done alone for the session in this slot? The loader sets the number. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct session_moves);
} moves SEC(".maps");

#define NO_HEAD 0xffffffff
/* Highest offset of a payload: Ethernet, IPv4 and the longest TCP header. */
#define MOST_PAYLOAD_OFFSET (IPV4_OFFSET + IPV4_BYTES + TCP_BYTES + MOST_OPTION_BYTES)
#define PAYLOAD_OFFSET_MASK 0x7f

/* The key of a head: its virtual server, and the node that is to get it. */
static __always_inline __u32 server_and_node(__u32 server, __u32 node)
{
	return server << 16 | node;
}

/* True if the head is judged for this virtual server and node, and nothing has changed since. */
static __always_inline int may_get(const struct judged_head *head, const struct head_digest *digest,
                                   __u32 generation, __u32 server_node)
{
	const volatile struct judged_head *now = head;
	__u32 node = server_node & 0xffff;

	if (now->digest[0] != digest->word[0] || now->digest[1] != digest->word[1] ||
	    now->generation != generation || now->server != server_node >> 16 ||
	    node >= HEAD_NODES)
		return 0;

	__u32 nodes = now->nodes[(node / 32) % (HEAD_NODES / 32)];

	/* If the engine began to put in another head meanwhile, this digest is no more. */
	return (nodes >> (node % 32) & 1) && now->digest[0] == digest->word[0];
}

/*
 * The place in `heads` of the head that is the frame's payload of `bytes` bytes at `offset`, or
 * NO_HEAD. The function is global, so that the verifier checks it once, separately.
 */
__noinline __u32 find_head(struct xdp_md *ctx, __u32 offset, __u32 bytes, __u32 server_node,
                           __u32 worker)
{
	__u32 zero = 0;
	const struct xdp_control *us = bpf_map_lookup_elem(&control, &zero);
	void *data_end = (void *)(long)ctx->data_end;

	if (!us || !us->head_sets || offset > MOST_PAYLOAD_OFFSET || bytes < HEAD_LEAST_BYTES ||
	    bytes > HEAD_MOST_BYTES)
		return NO_HEAD;

	/* The verifier forgets bounds that the compiler has proven in its own way. */
	OPAQUE(offset);
	offset &= PAYLOAD_OFFSET_MASK;

	__u32 tail = offset + bytes - sizeof(__u64);

	OPAQUE(tail);
	tail &= 2 * HEAD_MOST_BYTES - 1;

	const __u8 *at = (void *)(long)ctx->data + offset;
	const __u8 *last = (void *)(long)ctx->data + tail;
	struct sip_state state;

	head_digest_begin(&state, us->head_key);
	for (__u32 i = 0; i < HEAD_MOST_BYTES / sizeof(__u64); i++) {
		if (i >= bytes / sizeof(__u64))
			break;
		if ((void *)(at + sizeof(__u64)) > data_end)
			return NO_HEAD;
		sip_word(&state, SIP_LE64(*(const __u64 *)at));
		at += sizeof(__u64);
		/* Otherwise the compiler compares `at` with its last value in place of `i`. */
		OPAQUE(at);
	}
	if (bytes % sizeof(__u64)) {
		if ((void *)(last + sizeof(__u64)) > data_end)
			return NO_HEAD;
		sip_word(&state, SIP_LE64(*(const __u64 *)last));
	}

	struct head_digest digest = head_digest_end(&state, bytes);
	__u32 set = worker * us->head_sets + ((__u32)digest.word[0] & (us->head_sets - 1));
	__u32 generation = *(const volatile __u32 *)&us->head_generation;

	for (__u32 way = 0; way < HEAD_WAYS; way++) {
		__u32 place = set * HEAD_WAYS + way;
		const struct judged_head *head = bpf_map_lookup_elem(&heads, &place);

		if (!head)
			return NO_HEAD;
		if (may_get(head, &digest, generation, server_node))
			return place;
	}
	return NO_HEAD;
}

/*
 * True if a segment is a head that the session's node may get, and the session was brought to its
 * end. The caller forwards the segment. The engine sees in `handed_to` and `moves` what happened.
 */
static __always_inline int take_head(struct xdp_md *ctx, struct session_record *record,
                                     const struct segment *segment, const struct place *place)
{
	int acked = seq_diff(segment->ack, record->client_ack);

	/* Only a client that has bytes of the answer before: an engine may keep the first head. */
	if (record->state != SESSION_PASSING ||
	    record->flags & (SESSION_CLIENT_FIN | SESSION_NODE_FIN) ||
	    !(segment->flags & TCP_ACK) || segment->seq != record->handed_to ||
	    acked > MAX_ADVANCE || acked < -MAX_ADVANCE ||
	    seq_diff(segment->ack, record->server_isn + 1) <= 0 || !node_of(record))
		return 0;

	__u32 offset = IPV4_OFFSET + segment->total - segment->payload;
	__u32 server_node = server_and_node(place->port_server & 0xffff, record->node);
	__u32 found = find_head(ctx, offset, segment->payload, server_node, place->worker);
	__u32 slot = place->slot;
	struct judged_head *head = bpf_map_lookup_elem(&heads, &found);
	struct session_moves *moved = bpf_map_lookup_elem(&moves, &slot);

	if (!head || !moved)
		return 0;
	record->handed_to = segment->seq + segment->payload;
	moved->head = head->number;
	moved->requests++;
	__sync_fetch_and_add(&head->requests, 1);
	count(XDP_HEAD_FORWARDED);
	return 1;
}

#endif
