/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Moves of sessions without the engine: the program brings a session back to a node where it is
 * parked (docs/ixp.md, "Parked sockets"), if nothing about it is uncertain:
 *
 *     IXCP_ENDED of the session's node   noted in `moves`, if its tag is right
 *     a judged head for a parked node    IXP_RESUME to that node, if the last ENDED says that the
 *                                        client has acknowledged all answers of its node
 *     until the node is known to have    all that the client sends goes to the engine: a socket
 *     the head: `unproven`               that has not come back would misunderstand the numbers
 *
 * The program keeps no copy of the head. If the RESUME was lost or refused, the client repeats the
 * head, and the engine hands it over.
 */
#ifndef BATON_XDP_RESUME_H
#define BATON_XDP_RESUME_H

#include "siphash.h"
#include "xdp-heads.h"
#include "xdp-wrap.h"

/*
 * True if nothing shows yet that the node has got the head of the last RESUME. A client that has
 * bytes of the answer shows it.
 */
static __always_inline int is_unproven(const struct segment *segment, const struct place *place)
{
	__u32 slot = place->slot;
	struct session_moves *moved = bpf_map_lookup_elem(&moves, &slot);

	if (!moved || !moved->unproven)
		return 0;

	int acked = seq_diff(segment->ack, moved->resumed_ack);

	if (segment->flags & TCP_ACK && acked > 0 && acked <= MAX_ADVANCE) {
		moved->unproven = 0;
		return 0;
	}
	return 1;
}

/* Notes an ENDED whose tag is right. False if it is for the engine. */
static __always_inline int note_ended(const struct xdp_control *us, struct place *place,
                                      __be32 from, const struct ixcp_hdr *ixcp)
{
	struct session_record *record = find(us, place);
	__u32 slot = place->slot;
	struct session_moves *moved = bpf_map_lookup_elem(&moves, &slot);

	if (!record || !moved || record->nonce != BE32(ixcp->session) ||
	    record->state != SESSION_PASSING ||
	    !(*(volatile __u8 *)&record->action & ACTION_HEADS) || moved->generation == 0 ||
	    moved->generation != *(const volatile __u32 *)&us->head_generation)
		return 0;

	__u16 number = *(const volatile __u16 *)&record->node;
	const struct xdp_node *node = node_of(record);

	if (!node || node->address != from)
		return 0;
	/*
	 * An older ENDED of this node, which was under way since an earlier visit, proves nothing.
	 * Another CPU may send the next RESUME as soon as it sees `ended_node`.
	 */
	if (seq_diff(BE32(ixcp->ack), moved->resumed_seq) > 0)
		*(volatile __u32 *)&moved->unproven = 0;
	moved->ended_answers = BE16(ixcp->answers);
	moved->ended_next = BE32(ixcp->ack);
	moved->ended_at = BE32(ixcp->seq);
	*(volatile __u16 *)&moved->ended_node = number;
	record->last_seen = tick_ms();
	count(XDP_ENDED_NOTED);
	return 1;
}

/* True if the session's node has answered all of its requests, and the client has all answers. */
static __always_inline int has_ended(const struct session_record *record,
                                     const struct session_moves *moved,
                                     const struct segment *segment)
{
	return moved->ended_node == record->node &&
	       moved->ended_answers == (__u16)moved->node_requests &&
	       moved->ended_next == segment->seq && moved->ended_at == segment->ack;
}

/* The place in session_moves.parked that find_head means. */
static __always_inline __u32 which_parked(__u32 found)
{
	return ((found >> HEAD_TARGET_SHIFT) - 1) & (MOST_PARKED - 1);
}

/* The node that find_head means, or NULL while its MAC address is not resolved. */
static __always_inline const struct xdp_node *target_node(const struct session_moves *moved,
                                                          __u32 found)
{
	__u32 target = moved->parked[which_parked(found)];
	const struct xdp_node *node = bpf_map_lookup_elem(&nodes, &target);

	/* The engine hands over to this machine's own stack. */
	return node && node->interface && node->interface != OWN_STACK ? node : NULL;
}

/* Counts a session that goes from its node to another one. Both are below HEAD_NODES. */
static __always_inline void count_move(const struct xdp_control *us, __u32 slot, __u32 from,
                                       __u32 to)
{
	if (from >= HEAD_NODES || to >= HEAD_NODES || !us->capacity)
		return;

	__u32 lines = HEAD_NODES / NODE_MOVES_A_LINE;
	__u32 first = us->capacity * us->workers + slot / us->capacity * lines;
	__u32 from_line = first + from / NODE_MOVES_A_LINE;
	__u32 to_line = first + to / NODE_MOVES_A_LINE;
	struct node_moves *left = (void *)bpf_map_lookup_elem(&moves, &from_line);
	struct node_moves *reached = (void *)bpf_map_lookup_elem(&moves, &to_line);

	if (!left || !reached)
		return;
	__sync_fetch_and_add(&left[from % NODE_MOVES_A_LINE].went, 1);
	__sync_fetch_and_add(&reached[to % NODE_MOVES_A_LINE].came, 1);
}

/* True if the session may come back with this head. Otherwise the head is for the engine. */
static __always_inline int can_resume(const struct xdp_control *us,
                                      const struct session_record *record,
                                      const struct segment *segment, __u32 slot, __u32 found)
{
	const struct session_moves *moved = bpf_map_lookup_elem(&moves, &slot);

	return moved && has_ended(record, moved, segment) && target_node(moved, found) &&
	       record->node < HEAD_NODES &&
	       segment->total <= us->mss + IPV4_BYTES + TCP_BYTES &&
	       checksum_fold64(sum_ipv4(segment->ip)) == 0 && !is_unfinished(segment);
}

/*
 * Sends a head of a session that can_resume to the parked node that find_head found. XDP_PASS: the
 * frame is for the engine.
 */
static __noinline int resume(struct xdp_md *ctx, const struct xdp_control *us,
                             struct session_record *record, __u32 slot, __u32 found)
{
	struct segment segment;
	union ixp_packet ixp;
	__u32 at = found & HEAD_PLACE;
	struct judged_head *head = bpf_map_lookup_elem(&heads, &at);
	struct session_moves *moved = bpf_map_lookup_elem(&moves, &slot);

	if (!head || !moved ||
	    !parse_segment((void *)(long)ctx->data, (void *)(long)ctx->data_end, &segment))
		return XDP_PASS;

	__u32 which = which_parked(found);
	__u32 target = moved->parked[which];
	const struct xdp_node *node = target_node(moved, found);

	if (!node)
		return XDP_PASS;

	__u32 ms = clock_ms();
	__u32 end = segment.seq + segment.payload;

	fill_ixp(&ixp.header, node, record, ms);
	ixp.header.type = IXP_RESUME;
	ixp.header.confirm = BE32(end);
	ixp.header.flags |= IXP_CLIENT_CONFIRMS | IXP_FOLLOW | IXP_TELL | IXP_HOLD_RESET;

	int verdict = insert_ixp(ctx, us, node, &segment, &ixp);

	if (verdict != XDP_TX)
		return verdict;

	moved->unproven = 1;
	moved->resumed_seq = segment.seq;
	moved->resumed_ack = segment.ack;
	moved->resumed_end = end;
	count_move(us, slot, record->node, target);
	moved->parked[which] = record->node;
	moved->ended_node = NO_NODE;
	moved->node_requests = 1;
	moved->head = head->number;
	moved->requests++;
	moved->moved++;
	record->node = (__u16)target;
	record->handed_to = end;
	record->last_seen = ms;
	record->packets++;
	follow(record, &segment);
	__sync_fetch_and_add(&head->requests, 1);
	count(XDP_HEAD_MOVED);
	return send_wrapped(ctx, us, node, record->nonce, segment.total + IXP_LENGTH);
}

/*
 * What becomes of a later head: HEAD_TAKEN, and the caller forwards it; HEAD_MOVED, and `verdict`
 * is that of its frame, which may have moved in memory; or it is for the engine.
 */
static __always_inline int take_or_move(struct xdp_md *ctx, const struct xdp_control *us,
                                        struct session_record *record,
                                        const struct segment *segment, const struct place *place,
                                        int *verdict)
{
	__u32 slot = place->slot;
	__u32 found;
	struct session_moves *moved = bpf_map_lookup_elem(&moves, &slot);

	if (!moved || !begin_heads(record, moved))
		return HEAD_UNKNOWN;

	int taken = take_head(ctx, record, segment, place, &found);

	if (taken == HEAD_ELSEWHERE && can_resume(us, record, segment, slot, found)) {
		*verdict = resume(ctx, us, record, slot, found);
		/* The frame may have moved, so `segment` means nothing any more. */
		if (*verdict == XDP_PASS)
			*verdict = to_engine(ctx, us, place->worker, XDP_PAYLOAD_UP);
		taken = HEAD_MOVED;
	}
	end_heads(moved);
	return taken;
}

#endif
