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

/* find_head: the bits of the place, and above them who gets the head. */
#define HEAD_PLACE 0x00ffffff
#define HEAD_TARGET_SHIFT 24 /* 0: the session's node; n: the node in session_moves.parked[n - 1] */

/* What take_head says. */
#define HEAD_UNKNOWN 0
#define HEAD_TAKEN 1
#define HEAD_ELSEWHERE 2
#define HEAD_MOVED 3 /* take_or_move of xdp-resume.h */

static __always_inline int has_node(const volatile struct judged_head *head, __u32 node)
{
	return node < HEAD_NODES &&
	       (head->nodes[(node / 32) % (HEAD_NODES / 32)] >> (node % 32) & 1);
}

/* True if the head is judged for this virtual server, and nothing has changed since. */
static __always_inline int is_judged(const volatile struct judged_head *head,
                                     const struct head_digest *digest, __u32 generation,
                                     __u32 server)
{
	return head->digest[0] == digest->word[0] && head->digest[1] == digest->word[1] &&
	       head->generation == generation && (head->server & ~HEAD_SOLE) == server;
}

/* The target of a judged head, as in find_head, or NO_HEAD if no node of the session may get it. */
static __always_inline __u32 target_of(const volatile struct judged_head *head, __u32 node,
                                       const struct session_moves *moved, __u32 generation)
{
	if (has_node(head, node))
		return 0;
	if (!(head->server & HEAD_SOLE) || moved->generation != generation)
		return NO_HEAD;
#pragma unroll
	for (__u32 n = 0; n < MOST_PARKED; n++)
		if (has_node(head, moved->parked[n]))
			return n + 1;
	return NO_HEAD;
}

/*
 * The engine takes a session from the program: it removes ACTION_HEADS, and then waits until `busy`
 * is 0. The program raises `busy`, and then looks at the action again. An atomic addition is a full
 * barrier on x86, so one of the two sees what the other has written. Two CPUs that work on one
 * session both leave it to the engine. True: end_heads must follow.
 */
static __always_inline int begin_heads(const struct session_record *record,
                                       struct session_moves *moved)
{
	__sync_fetch_and_add(&moved->busy, 1);
	if (*(const volatile __u32 *)&moved->busy == 1 &&
	    *(const volatile __u8 *)&record->action & ACTION_HEADS)
		return 1;
	__sync_fetch_and_add(&moved->busy, -1);
	return 0;
}

static __always_inline void end_heads(struct session_moves *moved)
{
	__sync_fetch_and_add(&moved->busy, -1);
}

/*
 * The place in `heads` of the head that is the frame's payload of `bytes` bytes at `offset`, and
 * its target; or NO_HEAD. `slot` is that of the session. The function is global, so that the
 * verifier checks it once, separately.
 */
__noinline __u32 find_head(struct xdp_md *ctx, __u32 offset, __u32 bytes, __u32 server,
                           __u32 slot)
{
	__u32 zero = 0;
	const struct session_record *record = bpf_map_lookup_elem(&sessions, &slot);
	const struct session_moves *moved = bpf_map_lookup_elem(&moves, &slot);
	const struct xdp_control *us = bpf_map_lookup_elem(&control, &zero);
	void *data_end = (void *)(long)ctx->data_end;

	if (!us || !record || !moved || !us->head_sets || !us->capacity ||
	    offset > MOST_PAYLOAD_OFFSET || bytes < HEAD_LEAST_BYTES || bytes > HEAD_MOST_BYTES)
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
	__u32 first = slot / us->capacity * us->head_sets;
	__u32 set = first + ((__u32)digest.word[0] & (us->head_sets - 1));
	__u32 generation = *(const volatile __u32 *)&us->head_generation;

	for (__u32 way = 0; way < HEAD_WAYS; way++) {
		__u32 place = set * HEAD_WAYS + way;
		const struct judged_head *head = bpf_map_lookup_elem(&heads, &place);

		if (!head)
			return NO_HEAD;
		if (!is_judged(head, &digest, generation, server))
			continue;

		__u32 target = target_of(head, record->node, moved, generation);

		/* If the engine began to put in another head meanwhile, it is judged no more. */
		if (target == NO_HEAD || place > HEAD_PLACE ||
		    !is_judged(head, &digest, generation, server))
			return NO_HEAD;
		return target << HEAD_TARGET_SHIFT | place;
	}
	return NO_HEAD;
}

/*
 * HEAD_TAKEN if a segment is a head that the session's node may get, and the session was brought to
 * its end. The caller forwards the segment. The engine sees in `handed_to` and `moves` what
 * happened. HEAD_ELSEWHERE: a node where the session is parked may get it (xdp-resume.h). `found`:
 * as find_head returns it.
 */
static __always_inline int take_head(struct xdp_md *ctx, struct session_record *record,
                                     const struct segment *segment, const struct place *place,
                                     __u32 *found)
{
	int acked = seq_diff(segment->ack, record->client_ack);

	*found = NO_HEAD;
	/* Only a client that has bytes of the answer before: an engine may keep the first head. */
	if (record->state != SESSION_PASSING ||
	    record->flags & (SESSION_CLIENT_FIN | SESSION_NODE_FIN) ||
	    !(segment->flags & TCP_ACK) || segment->seq != record->handed_to ||
	    acked > MAX_ADVANCE || acked < -MAX_ADVANCE ||
	    seq_diff(segment->ack, record->server_isn + 1) <= 0 || !node_of(record))
		return HEAD_UNKNOWN;

	__u32 offset = IPV4_OFFSET + segment->total - segment->payload;
	__u32 slot = place->slot;

	*found = find_head(ctx, offset, segment->payload, place->port_server & 0xffff, slot);

	__u32 at = *found & HEAD_PLACE;
	struct judged_head *head = bpf_map_lookup_elem(&heads, &at);
	struct session_moves *moved = bpf_map_lookup_elem(&moves, &slot);

	if (*found == NO_HEAD || !head || !moved)
		return HEAD_UNKNOWN;
	if (*found >> HEAD_TARGET_SHIFT)
		return HEAD_ELSEWHERE;
	record->handed_to = segment->seq + segment->payload;
	moved->head = head->number;
	moved->requests++;
	moved->node_requests++;
	__sync_fetch_and_add(&head->requests, 1);
	count(XDP_HEAD_FORWARDED);
	return HEAD_TAKEN;
}

#endif
