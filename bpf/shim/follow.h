/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads the answers of a session that may move on, as its socket sends them (answers.h).
 *
 * A socket sends each byte for the first time in order, and every frame passes egress before
 * anything can lose it. So a byte that is not the next one is a repetition, or the shim has missed
 * some, after which it knows nothing. Egress sees segments before they are cut to the size of the
 * wire: one may have 64 KB, most of it in pages that the program does not touch.
 */
#ifndef BATON_FOLLOW_H
#define BATON_FOLLOW_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "answers.h"
#include "maps.h"
#include "parse.h"

/* Bytes that are read from a frame at a time; a power of two. */
#define FOLLOW_PIECE 64
/*
 * Bytes of heads and chunk sizes that are read in one frame, and bodies and chunks that are passed
 * over. A server that sends a large frame in tiny chunks is not worth more.
 */
#define FOLLOW_STEPS 8192

/* A walk over the payload of one frame. Offsets are in the frame. */
struct follow {
	struct __sk_buff *skb;
	struct answers *answers;
	__u32 at, end;
	__u32 piece, piece_end; /* the bytes that were read */
	__u8 bytes[FOLLOW_PIECE];
};

/* One byte, or one body or chunk. Returns 1 when the walk is over. */
static long follow_step(__u64 step, struct follow *walk)
{
	struct answers *answers = walk->answers;
	__u32 at = walk->at;

	(void)step;
	if (at >= walk->end || answers->phase == ANSWERS_UNFOLLOWED)
		return 1;
	if (answers_skip(answers)) {
		__u32 bytes = walk->end - at;

		if (bytes > answers->rest)
			bytes = answers->rest;
		answers_skipped(answers, bytes);
		walk->at = at + bytes;
		return 0;
	}
	if (at >= walk->piece_end) {
		__u32 more = walk->end - at - 1;

		if (more > FOLLOW_PIECE - 1)
			more = FOLLOW_PIECE - 1;
		/* The verifier must see the limit: the compiler may not compute it again. */
		asm volatile("" : "+r"(more));
		if (bpf_skb_load_bytes(walk->skb, at, walk->bytes,
		                       (more & (FOLLOW_PIECE - 1)) + 1)) {
			answers->phase = ANSWERS_UNFOLLOWED;
			return 1;
		}
		walk->piece = at;
		walk->piece_end = at + more + 1;
	}
	answers_byte(answers, walk->bytes[(at - walk->piece) & (FOLLOW_PIECE - 1)]);
	walk->at = at + 1;
	return 0;
}

/*
 * Takes in the payload of a segment, which begins at `offset` of the frame and has the sequence
 * number `seq`.
 */
static __always_inline void follow(struct __sk_buff *skb, struct answers *answers, __u32 offset,
                                   __u32 seq)
{
	__u32 length = skb->len - offset;
	int known = seq_diff(answers->next, seq);

	if (skb->len <= offset || answers->phase == ANSWERS_UNFOLLOWED || known >= (int)length)
		return;

	struct follow walk = {
		.skb = skb,
		.answers = answers,
		.at = offset + known,
		.end = skb->len,
	};

	if (known >= 0)
		bpf_loop(FOLLOW_STEPS, follow_step, &walk, 0);
	if (known < 0 || walk.at < walk.end)
		answers->phase = ANSWERS_UNFOLLOWED;
	answers->next = seq + length;
	if (answers->phase == ANSWERS_UNFOLLOWED)
		count(SHIM_UNFOLLOWED);
}

#endif
