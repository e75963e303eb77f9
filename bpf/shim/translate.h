/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Translates TCP headers between the numbers of a node's socket and those that its client knows
 * (struct translation of config.h), at egress and at ingress:
 *
 *     out   sequence number, acknowledgement number, SACK blocks, TSval, window
 *     in    the same, and TSecr in place of TSval
 *
 * A frame may be cut to the size of the wire later, or have been merged before: it has one header,
 * and the cut copies it. Its checksum may be left to hardware: bpf_l4_csum_replace then leaves the
 * field alone, because the sum that is there covers addresses and length only.
 */
#ifndef BATON_TRANSLATE_H
#define BATON_TRANSLATE_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "parse.h"

/* Offsets in a TCP header (RFC 9293 section 3.1). */
#define TCP_SEQ 4
#define TCP_ACK_SEQ 8
#define TCP_WINDOW 14
#define TCP_CHECK 16

/* TCP options (RFC 9293 section 3.2, RFC 2018, RFC 7323). */
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_SACK 5
#define OPTION_TIMESTAMPS 8
#define TIMESTAMPS_BYTES 10
/* NOP, NOP, timestamps: the only options of most segments. */
#define USUAL_OPTIONS 0x0101080a
#define USUAL_BYTES 32

enum direction {
	TO_CLIENT,
	TO_SOCKET,
};

static __always_inline __u32 word_at(const struct tcp_header *header, __u32 at)
{
	__u32 word;

	__builtin_memcpy(&word, &header->bytes[at & (TCP_HEADER_ROOM - 1)], sizeof(word));
	return bpf_ntohl(word);
}

static __always_inline void set_at(struct tcp_header *header, __u32 at, __u32 number)
{
	__u32 word = bpf_htonl(number);

	__builtin_memcpy(&header->bytes[at & (TCP_HEADER_ROOM - 1)], &word, sizeof(word));
}

static __always_inline void add_at(struct tcp_header *header, __u32 at, __u32 number)
{
	set_at(header, at, word_at(header, at) + number);
}

static __always_inline __u16 shift_window(__u16 window, __s8 shift)
{
	__u32 shifted = shift >= 0 ? (__u32)window << (shift & 15) : window >> (-shift & 15);

	return shifted > 0xffff ? 0xffff : shifted;
}

/*
 * Translates the two numbers behind the head of a timestamps option. The client drops segments
 * whose TSval runs back (RFC 7323 section 5), so the clock is set forward where it must be.
 */
static __always_inline void translate_clock(struct tcp_header *header, __u32 at,
                                            struct translation *translation,
                                            enum direction direction)
{
	if (direction == TO_SOCKET) {
		if (translation->echo)
			set_at(header, at + 4, translation->syn_tsval);
		else
			add_at(header, at + 4, -translation->clock);
		return;
	}
	translation->echo = 0;

	__u32 tsval = word_at(header, at) + translation->clock;

	if (translation->has_floor && seq_diff(tsval, translation->clock_floor) < 0)
		translation->clock += translation->clock_floor - tsval;
	add_at(header, at, translation->clock);
}

/* Translates what begins at this place of the options, if something does. Returns 1 at the end. */
static __always_inline int translate_option(struct header_work *work, __u32 at, __u32 bytes,
                                            enum direction direction)
{
	struct tcp_header *header = &work->after;
	struct translation *translation = &work->translation;
	__u8 kind = header->bytes[at];
	__u8 length = header->bytes[at + 1];

	if (at < work->sack_end && (work->sack_end - at) % 4 == 0) {
		add_at(header, at,
		       direction == TO_CLIENT ? translation->received : -translation->sent);
		return 0;
	}
	if (at != work->next)
		return 0;
	if (kind == OPTION_NOP) {
		work->next = at + 1;
		return 0;
	}
	if (kind == OPTION_END || length < 2 || at + length > bytes)
		return 1;
	work->next = at + length;
	if (kind == OPTION_SACK && length % 8 == 2)
		work->sack_end = at + length;
	if (kind == OPTION_TIMESTAMPS && length == TIMESTAMPS_BYTES)
		translate_clock(header, at + 2, translation, direction);
	return 0;
}

/* Translates options in any order. A malformed option ends the list, as it does in the stack. */
static __always_inline void translate_options(struct header_work *work, __u32 bytes,
                                              enum direction direction)
{
	work->next = TCP_BYTES;
	work->sack_end = 0;

	int end = 0;

/* Older kernels refuse a loop if the compiler lays it out so that its body falls into its head. */
#ifdef BATON_WITHOUT_ADOPTION
#pragma unroll
#else
#pragma clang loop unroll(disable)
#endif
	for (__u32 at = TCP_BYTES; at < TCP_MOST_BYTES; at++)
		if (!end && at < bytes)
			end = translate_option(work, at, bytes, direction);
}

/*
 * Translates the TCP header of `bytes` bytes at `offset` of the frame by what is in the map
 * `headers`. Returns 0, or -1. A function of its own for the verifier, which checks it once. Before
 * Linux 5.12 such a function takes no pointers but that of the frame.
 */
__noinline int translate_header(struct __sk_buff *skb, __u32 offset, __u32 bytes, __u32 to_client)
{
	__u32 zero = 0;
	struct header_work *work = bpf_map_lookup_elem(&headers, &zero);

	if (!work || bytes < (__u32)TCP_BYTES || bytes > TCP_MOST_BYTES)
		return -1;
	/* The verifier must see the limits: the compiler may not compute them again. */
	__u32 more = bytes - TCP_BYTES;

	asm volatile("" : "+r"(more));
	more &= TCP_HEADER_ROOM - 1;
	if (more > TCP_MOST_BYTES - TCP_BYTES ||
	    bpf_skb_load_bytes(skb, offset, work->before.bytes, more + TCP_BYTES))
		return -1;
	work->after = work->before;

	struct tcp_header *after = &work->after;
	struct translation *translation = &work->translation;
	enum direction direction = to_client ? TO_CLIENT : TO_SOCKET;
	__u16 window = after->bytes[TCP_WINDOW] << 8 | after->bytes[TCP_WINDOW + 1];

	add_at(after, TCP_SEQ, to_client ? translation->sent : -translation->received);
	if (after->bytes[TCP_FLAG_BYTE] & TCP_ACK)
		add_at(after, TCP_ACK_SEQ, to_client ? translation->received : -translation->sent);
	window = shift_window(window, to_client ? translation->window_out : translation->window_in);
	after->bytes[TCP_WINDOW] = window >> 8;
	after->bytes[TCP_WINDOW + 1] = window & 0xff;
	if (bytes == USUAL_BYTES && word_at(after, TCP_BYTES) == USUAL_OPTIONS)
		translate_clock(after, TCP_BYTES + 4, translation, direction);
	else if (bytes > (__u32)TCP_BYTES)
		translate_options(work, bytes, direction);

	__s64 change = bpf_csum_diff((__be32 *)work->before.bytes, TCP_HEADER_ROOM,
	                             (__be32 *)after->bytes, TCP_HEADER_ROOM, 0);

	if (change < 0 || bpf_skb_store_bytes(skb, offset, after->bytes, more + TCP_BYTES, 0) ||
	    bpf_l4_csum_replace(skb, offset + TCP_CHECK, 0, change, 0))
		return -1;
	return 0;
}

/*
 * Translates the TCP header of `bytes` bytes, options included, at `offset` of the frame. Packet
 * pointers become invalid. Returns 0, or -1 if the frame could not be rewritten.
 */
static __always_inline int translate(struct __sk_buff *skb, struct translation *translation,
                                     __u32 offset, __u32 bytes, enum direction direction)
{
	__u32 zero = 0;
	struct header_work *work = bpf_map_lookup_elem(&headers, &zero);

	if (!work)
		return -1;
	work->translation = *translation;
	if (translate_header(skb, offset, bytes, direction == TO_CLIENT))
		return -1;
	if (direction == TO_CLIENT && (translation->has_floor || translation->echo)) {
		translation->clock = work->translation.clock;
		translation->echo = work->translation.echo;
	}
	return 0;
}

/* Numbers of the stream, which client and balancer know, from those of the socket, and back. */
static __always_inline __u32 stream_received(const struct session *session, __u32 number)
{
	return number + session->translation.received;
}

static __always_inline __u32 socket_received(const struct session *session, __u32 number)
{
	return number - session->translation.received;
}

static __always_inline __u32 socket_sent(const struct session *session, __u32 number)
{
	return number - session->translation.sent;
}

#endif
