/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Follows the HTTP/1 answers that a server sends on one connection, to know where each one ends
 * (RFC 9112 section 6.3):
 *
 *     100 to 199, not 101            at the end of its head; the real answer follows
 *     to HEAD, or 204, or 304        at the end of its head
 *     Transfer-Encoding: chunked     behind the last chunk and its trailers
 *     Content-Length                 after so many bytes
 *     anything else                  unknown: it ends with the connection
 *
 * The reader gets every byte once, in order. It keeps nothing but a few numbers, so an answer may
 * be cut into segments anywhere. It is strict: where two readers could understand a head
 * differently, it says that it does not know. Compiles for BPF and natively.
 */
#ifndef BATON_ANSWERS_H
#define BATON_ANSWERS_H

#include <linux/types.h>

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

enum answers_phase {
	ANSWERS_UNFOLLOWED, /* not followed, or not any more: nothing is known of the answers */
	ANSWERS_ENDED,      /* all answers that have begun have ended */
	ANSWERS_BODY,       /* `rest` bytes of a body follow */
	ANSWERS_CHUNK,      /* `rest` bytes of a chunk follow */
	ANSWERS_VALUE,      /* in a value that is not needed, or behind the status */
	ANSWERS_NAME,       /* in the name of a field */
	ANSWERS_LENGTH,     /* in the value of Content-Length */
	ANSWERS_CODING,     /* in the value of Transfer-Encoding */
	ANSWERS_STATUS,     /* in a status line */
	ANSWERS_LINE_END,   /* between CR and LF of a line of the head */
	ANSWERS_HEAD_END,   /* between CR and LF of the empty line */
	ANSWERS_CHUNK_END,  /* before the CR behind a chunk */
	ANSWERS_CHUNK_LF,   /* before the LF behind a chunk */
	ANSWERS_SIZE,       /* in the size of a chunk */
	ANSWERS_EXTENSION,  /* behind the size */
	ANSWERS_SIZE_LF,    /* before the LF behind the size */
	ANSWERS_TRAILER,    /* at the begin of a trailer, or of the empty line */
	ANSWERS_TRAILER_IN, /* in a trailer */
	ANSWERS_TRAILER_LF, /* before the LF of a trailer */
	ANSWERS_LAST_LF,    /* before the last LF of a chunked answer */
};

/* answers.framing */
#define FRAMING_LENGTH 0x1  /* there was a Content-Length */
#define FRAMING_CHUNKED 0x2 /* there was a Transfer-Encoding, which was "chunked" */
#define FRAMING_HTTP_1_0 0x4

/* answers.head_request, when several HEAD requests wait for their answers at one time */
#define HEAD_REQUESTS_SEVERAL 0xffffffffU

/* answers.column in a value: behind its end, only white space may follow. */
#define COLUMN_PAST 0xff

/* 15 digits: no sum overflows, and no body is longer. */
#define MOST_DIGITS 15

struct answers {
	__u32 next;         /*  0 sequence number of the next byte */
	__u32 ended;        /*  4 how many answers have ended */
	__u32 head_request; /*  8 number of the last HEAD request, from 1 on; ingress writes it */
	__u16 status;       /* 12 */
	__u8 phase;         /* 14 enum answers_phase */
	__u8 column;        /* 15 place in a line or word */
	__u64 rest;         /* 16 bytes of a body or chunk that follow; the number in a value */
	__u8 framing;       /* 24 FRAMING_* */
	__u8 names;         /* 25 the fields of interest that this name can still be: FRAMING_* */
	__u8 pad[6];        /* 26 always 0 */
};

static __always_inline __u8 lower(__u8 byte)
{
	return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

static __always_inline int is_digit(__u8 byte)
{
	return byte >= '0' && byte <= '9';
}

static __always_inline int is_blank(__u8 byte)
{
	return byte == ' ' || byte == '\t';
}

/*
 * Up to eight characters of a literal as one number, the first in the lowest byte: constants in
 * instructions, which need no memory.
 */
#define CHARACTER(text, at) ((__u64)(__u8)(text)[at] << 8 * (at))
#define EIGHT(text)                                                                                \
	(CHARACTER(text, 0) | CHARACTER(text, 1) | CHARACTER(text, 2) | CHARACTER(text, 3) |       \
	 CHARACTER(text, 4) | CHARACTER(text, 5) | CHARACTER(text, 6) | CHARACTER(text, 7))

/* The character of a text of eight at `column`, which is below 8. */
static __always_inline __u8 character(__u64 eight, __u8 column)
{
	return (__u8)(eight >> 8 * (column & 7));
}

/* The characters of the two names at `column`, or 0 behind their ends. */
static __always_inline __u8 name_of_length(__u8 column)
{
	return column < 8    ? character(EIGHT("content-"), column)
	       : column < 16 ? character(EIGHT("length\0"), column)
	                     : 0;
}

static __always_inline __u8 name_of_coding(__u8 column)
{
	return column < 8     ? character(EIGHT("transfer"), column)
	       : column < 16  ? character(EIGHT("-encodin"), column)
	       : column == 16 ? 'g'
	                      : 0;
}

/* True if a body, or the data of a chunk, comes next: `rest` bytes that nobody reads. */
static __always_inline int answers_skip(const struct answers *answers)
{
	return answers->phase == ANSWERS_BODY || answers->phase == ANSWERS_CHUNK;
}

/* Takes in `bytes` bytes of a body or chunk, at most `rest`. */
static __always_inline void answers_skipped(struct answers *answers, __u32 bytes)
{
	answers->rest -= bytes;
	if (answers->rest != 0)
		return;
	if (answers->phase == ANSWERS_BODY) {
		answers->phase = ANSWERS_ENDED;
		answers->ended++;
	} else {
		answers->phase = ANSWERS_CHUNK_END;
	}
}

/* The phase behind a head. */
static __always_inline __u8 answers_head(struct answers *answers)
{
	__u8 framing = answers->framing & (FRAMING_LENGTH | FRAMING_CHUNKED);

	if (answers->status < 200)
		return answers->status == 101 ? ANSWERS_UNFOLLOWED : ANSWERS_STATUS;
	if (answers->head_request == HEAD_REQUESTS_SEVERAL)
		return ANSWERS_UNFOLLOWED;
	if (answers->head_request == answers->ended + 1 || answers->status == 204 ||
	    answers->status == 304) {
		answers->ended++;
		return ANSWERS_ENDED;
	}
	if (framing == FRAMING_CHUNKED)
		return answers->framing & FRAMING_HTTP_1_0 ? ANSWERS_UNFOLLOWED : ANSWERS_SIZE;
	if (framing != FRAMING_LENGTH)
		return ANSWERS_UNFOLLOWED;
	if (answers->rest != 0)
		return ANSWERS_BODY;
	answers->ended++;
	return ANSWERS_ENDED;
}

/* The phase behind one more byte of a status line. */
static __always_inline __u8 answers_status(struct answers *answers, __u8 byte)
{
	__u8 column = answers->column;

	answers->column = column + 1;
	if (column < 7)
		return byte == character(EIGHT("HTTP/1."), column) ? ANSWERS_STATUS
		                                                   : ANSWERS_UNFOLLOWED;
	if (column == 7) {
		answers->framing = byte == '0' ? FRAMING_HTTP_1_0 : 0;
		return byte == '0' || byte == '1' ? ANSWERS_STATUS : ANSWERS_UNFOLLOWED;
	}
	if (column == 8)
		return byte == ' ' ? ANSWERS_STATUS : ANSWERS_UNFOLLOWED;
	if (column < 12) {
		answers->status = (column == 9 ? 0 : answers->status * 10) + (byte - '0');
		return is_digit(byte) && (column != 9 || byte != '0') ? ANSWERS_STATUS
		                                                      : ANSWERS_UNFOLLOWED;
	}
	return byte == ' ' ? ANSWERS_VALUE : byte == '\r' ? ANSWERS_LINE_END : ANSWERS_UNFOLLOWED;
}

/* The phase behind one more byte of a field's name. */
static __always_inline __u8 answers_name(struct answers *answers, __u8 byte)
{
	__u8 column = answers->column;
	__u8 names = answers->names;

	if (column == 0) {
		if (byte == '\r')
			return ANSWERS_HEAD_END;
		names = FRAMING_LENGTH | FRAMING_CHUNKED;
	}
	if (byte == ':') {
		answers->column = 0;
		if (column == 0)
			return ANSWERS_UNFOLLOWED;
		if (column == sizeof("content-length") - 1 && (names & FRAMING_LENGTH)) {
			/* Twice, even with the same value: the two may be read differently. */
			if (answers->framing & FRAMING_LENGTH)
				return ANSWERS_UNFOLLOWED;
			answers->framing |= FRAMING_LENGTH;
			answers->rest = 0;
			return ANSWERS_LENGTH;
		}
		if (column == sizeof("transfer-encoding") - 1 && (names & FRAMING_CHUNKED)) {
			if (answers->framing & FRAMING_CHUNKED)
				return ANSWERS_UNFOLLOWED;
			answers->framing |= FRAMING_CHUNKED;
			return ANSWERS_CODING;
		}
		return ANSWERS_VALUE;
	}
	/* White space here folds a line, or makes a name that some take for another one. */
	if (byte <= ' ')
		return ANSWERS_UNFOLLOWED;
	if (names) {
		byte = lower(byte);
		if (byte != name_of_length(column))
			names &= ~FRAMING_LENGTH;
		if (byte != name_of_coding(column))
			names &= ~FRAMING_CHUNKED;
		answers->names = names;
	}
	if (column < sizeof("transfer-encoding"))
		answers->column = column + 1;
	return ANSWERS_NAME;
}

/* The phase behind one more byte of the value of Content-Length. */
static __always_inline __u8 answers_length_value(struct answers *answers, __u8 byte)
{
	__u8 column = answers->column;

	if (byte == '\r')
		return column != 0 ? ANSWERS_LINE_END : ANSWERS_UNFOLLOWED;
	if (is_blank(byte)) {
		if (column != 0)
			answers->column = COLUMN_PAST;
		return ANSWERS_LENGTH;
	}
	if (!is_digit(byte) || column >= MOST_DIGITS)
		return ANSWERS_UNFOLLOWED;
	answers->rest = answers->rest * 10 + (byte - '0');
	answers->column = column + 1;
	return ANSWERS_LENGTH;
}

/* The phase behind one more byte of the value of Transfer-Encoding. */
static __always_inline __u8 answers_coding_value(struct answers *answers, __u8 byte)
{
	__u8 column = answers->column;

	if (byte == '\r')
		return column >= 7 ? ANSWERS_LINE_END : ANSWERS_UNFOLLOWED;
	if (is_blank(byte) && (column == 0 || column >= 7)) {
		if (column != 0)
			answers->column = COLUMN_PAST;
		return ANSWERS_CODING;
	}
	if (column >= 7 || lower(byte) != character(EIGHT("chunked"), column))
		return ANSWERS_UNFOLLOWED;
	answers->column = column + 1;
	return ANSWERS_CODING;
}

/* The phase behind one more byte of the size of a chunk. */
static __always_inline __u8 answers_size(struct answers *answers, __u8 byte)
{
	__u8 column = answers->column;
	__u8 letter = (byte | 0x20) - 'a';
	__u8 digit = letter < 6 ? letter + 10 : byte - '0';

	if (column != 0 && byte == '\r')
		return ANSWERS_SIZE_LF;
	if (column != 0 && (byte == ';' || is_blank(byte)))
		return ANSWERS_EXTENSION;
	if ((letter >= 6 && digit > 9) || column >= MOST_DIGITS)
		return ANSWERS_UNFOLLOWED;
	answers->rest = (column == 0 ? 0 : answers->rest << 4) + digit;
	answers->column = column + 1;
	return ANSWERS_SIZE;
}

/* The phase after `phase` if this is the byte that must come now. */
#define ANSWERS_EXPECT(expected, phase) (byte == (expected) ? (phase) : ANSWERS_UNFOLLOWED)
/* The phase in a text of which only the end matters. */
#define ANSWERS_TEXT(now, end)                                                                     \
	(byte == '\r' ? (end) : byte == '\n' || byte == 0 ? ANSWERS_UNFOLLOWED : (now))

/* Takes in one byte that belongs to no body and no chunk. */
static __always_inline void answers_byte(struct answers *answers, __u8 byte)
{
	__u8 phase = answers->phase;

	switch (phase) {
	case ANSWERS_VALUE:
		phase = ANSWERS_TEXT(ANSWERS_VALUE, ANSWERS_LINE_END);
		break;
	case ANSWERS_NAME:
		phase = answers_name(answers, byte);
		break;
	case ANSWERS_LINE_END:
		answers->column = 0;
		phase = ANSWERS_EXPECT('\n', ANSWERS_NAME);
		break;
	case ANSWERS_ENDED:
		answers->column = 0;
		__attribute__((fallthrough));
	case ANSWERS_STATUS:
		phase = answers_status(answers, byte);
		break;
	case ANSWERS_LENGTH:
		phase = answers_length_value(answers, byte);
		break;
	case ANSWERS_CODING:
		phase = answers_coding_value(answers, byte);
		break;
	case ANSWERS_HEAD_END:
		answers->column = 0;
		phase = byte == '\n' ? answers_head(answers) : ANSWERS_UNFOLLOWED;
		break;
	case ANSWERS_CHUNK_END:
		phase = ANSWERS_EXPECT('\r', ANSWERS_CHUNK_LF);
		break;
	case ANSWERS_CHUNK_LF:
		answers->column = 0;
		phase = ANSWERS_EXPECT('\n', ANSWERS_SIZE);
		break;
	case ANSWERS_SIZE:
		phase = answers_size(answers, byte);
		break;
	case ANSWERS_EXTENSION:
		phase = ANSWERS_TEXT(ANSWERS_EXTENSION, ANSWERS_SIZE_LF);
		break;
	case ANSWERS_SIZE_LF:
		phase = ANSWERS_EXPECT('\n', answers->rest != 0 ? ANSWERS_CHUNK : ANSWERS_TRAILER);
		break;
	case ANSWERS_TRAILER:
		if (byte == '\r') {
			phase = ANSWERS_LAST_LF;
			break;
		}
		__attribute__((fallthrough));
	case ANSWERS_TRAILER_IN:
		phase = ANSWERS_TEXT(ANSWERS_TRAILER_IN, ANSWERS_TRAILER_LF);
		break;
	case ANSWERS_TRAILER_LF:
		phase = ANSWERS_EXPECT('\n', ANSWERS_TRAILER);
		break;
	case ANSWERS_LAST_LF:
		phase = ANSWERS_EXPECT('\n', ANSWERS_ENDED);
		if (phase == ANSWERS_ENDED)
			answers->ended++;
		break;
	default:
		phase = ANSWERS_UNFOLLOWED;
	}
	answers->phase = phase;
}

/*
 * Learns that the request of this number, counted from 1, has the method HEAD. Called before the
 * server can have answered it.
 */
static __always_inline void answers_expect_head(struct answers *answers, __u32 number)
{
	__u32 last = answers->head_request;

	if (last == number || number <= answers->ended || last == HEAD_REQUESTS_SEVERAL)
		return;
	answers->head_request = last > answers->ended ? HEAD_REQUESTS_SEVERAL : number;
}

#endif
