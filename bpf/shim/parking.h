/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a client's segments and the frames of a balancer mean for a session that is parked, or may
 * be (park.h).
 *
 * Ingress counts the requests of such a session. It sets `unsure` before a payload of which it does
 * not know the requests reaches the socket. Egress sets PARKED, and looks at `unsure` again. One of
 * the two sees what the other has written.
 */
#ifndef BATON_PARKING_H
#define BATON_PARKING_H

#include "frame.h"

/* What egress does with a segment: 0, or a notice, which replaces the segment if it is held. */
#define HELD_AS(type) (IXCP_##type | IXCP_REASON_PARKED << 4)
#define IS_HELD(about) ((about) >> 4 == IXCP_REASON_PARKED)

/* True if this place of the stream is earlier than the last one where the session was parked. */
static __always_inline int is_before_parking(const struct session *session, __u32 seq)
{
	return session->parking.state != PARKED_NEVER &&
	       seq_diff(socket_received(session, seq), session->parking.received) < 0;
}

/*
 * True if this place of the stream is behind that of the parking. The frame has overtaken the one
 * with which the session comes back: the socket would take its bytes for others.
 */
static __always_inline int is_behind_parking(const struct session *session, __u32 seq)
{
	return session->parking.state == PARKED &&
	       seq_diff(socket_received(session, seq), session->parking.received) > 0;
}

/*
 * True if a frame with this sequence number and end brings what the parked session has not had
 * here. The frame that brought its last request has the same sequence number each time, even if its
 * end has grown.
 */
static __always_inline int comes_back(const struct session *session, const struct ixp_frame *frame)
{
	__u32 confirm = socket_received(session, bpf_ntohl(frame->ixp.confirm));

	return session->parking.state == PARKED && bpf_ntohl(frame->seq) != session->began &&
	       seq_diff(confirm, session->parking.received) > 0;
}

/*
 * True if a frame that asks for a new socket is about the request with which the session came back,
 * and the parked socket, which is in this state, has closed without an answer. The client does not
 * know. A socket that is open works on the request: it must not be asked of a second one.
 */
static __always_inline int replaces_resumed(const struct session *session,
                                            const struct ixp_frame *frame, __u32 state)
{
	return session->resumed && !session->sent_payload &&
	       bpf_ntohl(frame->seq) == session->began && state != STATE_ESTABLISHED &&
	       state != STATE_CLOSE_WAIT;
}

#ifdef BATON_WITHOUT_LOOP

/* Without a shim that follows answers, no session is parked. */
static __always_inline void note_payload(struct session *session, __u32 seq, __u32 bytes, int fin,
                                         __u32 number)
{
	(void)session;
	(void)seq;
	(void)bytes;
	(void)fin;
	(void)number;
}

#else

/*
 * Takes notice of `bytes` bytes of payload from `seq` on, of the client, before the socket gets
 * them. `number` is that of the request whose head is in them, or 0 if nobody has said it.
 */
static __always_inline void note_payload(struct session *session, __u32 seq, __u32 bytes, int fin,
                                         __u32 number)
{
	struct parking *parking = &session->parking;
	__u32 from = socket_received(session, seq);
	__u32 end = from + bytes;
	int awakes = parking->state == PARKED && from == parking->received && bytes + fin > 0;

	if (!parking->tell)
		return;
	if (awakes)
		parking->state = PARKED_BEFORE;
	if (bytes == 0 || seq_diff(end, parking->request_end) <= 0)
		return;
	if (number != 0) {
		if (seq_diff(number, parking->requests) > 0)
			parking->requests = number;
		parking->request_end = end;
	} else if (awakes) {
		parking->requests++;
		parking->request_end = end;
	} else if (!parking->unsure) {
		__sync_lock_test_and_set(&parking->unsure, 1);
	}
}

#endif

#endif
