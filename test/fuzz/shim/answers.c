/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs the shim's reader of answers (answers.h) natively, under the address and undefined-behaviour
 * sanitizers: over streams of random answers, mutated and truncated, in random pieces. A slow and
 * simple reader, which has the whole stream at once, must find the same ends.
 *
 *     answers ROUNDS SEED     rounds of a stream with up to MOST_ANSWERS answers
 *
 * Prints "inputs N" at the end: bytes that were read one by one. If a property does not hold,
 * prints it and exits with 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "answers.h"

#define MOST_BYTES 4096
#define MOST_ANSWERS 5
#define MOST_MUTATIONS 2
#define FRAMINGS (FRAMING_LENGTH | FRAMING_CHUNKED | FRAMING_HTTP_1_0)

static __u64 random_state;
static unsigned long inputs;
static unsigned long ended;
static unsigned long unfollowed;

static __u8 stream[MOST_BYTES];
static size_t length;

/* xorshift64*: Vigna, 2016. */
static __u32 random_u32(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (__u32)((random_state * 2685821657736338717ULL) >> 32);
}

static __u32 below(__u32 limit)
{
	return random_u32() % limit;
}

static void require(int condition, const char *property)
{
	if (condition)
		return;
	printf("broken after %lu inputs: %s\n", inputs, property);
	exit(1);
}

/* --- streams */

static void add(const char *text)
{
	size_t bytes = strlen(text);

	if (length + bytes > MOST_BYTES)
		return;
	memcpy(stream + length, text, bytes);
	length += bytes;
}

static void add_body(__u32 bytes)
{
	while (bytes-- > 0 && length < MOST_BYTES)
		stream[length++] = "HTTP/1.1 200\r\n\r\n0:x"[below(20)];
}

#define PICK(texts) ((texts)[below(sizeof(texts) / sizeof((texts)[0]))])

static void add_chunks(void)
{
	static const char *const extensions[] = { "", "", ";a=b", " ;x", "\t" };
	static const char *const trailers[] = { "", "", "X: y\r\n", "a\r\n b: c\r\n" };
	char line[40];

	for (__u32 chunk = below(4); chunk > 0; chunk--) {
		__u32 bytes = 1 + below(40);

		snprintf(line, sizeof(line), below(2) ? "%x%s\r\n" : "%03X%s\r\n", bytes,
		         PICK(extensions));
		add(line);
		add_body(bytes);
		add("\r\n");
	}
	add(below(4) ? "0" : "000");
	add(PICK(extensions));
	add("\r\n");
	add(PICK(trailers));
	add("\r\n");
}

static void add_answer(int to_head)
{
	static const char *const starts[] = { "HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found",
		                              "HTTP/1.0 200 OK", "HTTP/1.1 206", "HTTP/1.1 500 " };
	static const char *const bare[] = { "HTTP/1.1 204 No Content",
		                            "HTTP/1.1 304 Not Modified" };
	static const char *const informal[] = { "HTTP/1.1 100 Continue",
		                                "HTTP/1.1 103 Early Hints" };
	static const char *const fields[] = { "",
		                              "Server: nginx\r\n",
		                              "Content-Lengths: 3\r\n",
		                              "Content-Type: text/html\r\n",
		                              "x:\r\n",
		                              "Transfer-Encodings: gzip\r\n",
		                              "Content_Length: 9\r\n" };
	static const char *const lengths[] = { "Content-Length: %u\r\n", "CONTENT-LENGTH:%u \t\r\n",
		                               "content-length: 00%u\r\n" };
	static const char *const codings[] = { "Transfer-Encoding: chunked\r\n",
		                               "TRANSFER-ENCODING:\tCHUNKED \r\n" };
	char line[60];
	__u32 kind = below(16);
	__u32 bytes = below(4) ? below(60) : 0;

	if (below(8) == 0) {
		add(PICK(informal));
		add("\r\n");
		add(PICK(fields));
		add("\r\n");
	}
	if (kind == 0) {
		add("HTTP/1.1 101 Switching Protocols\r\n\r\n");
		add_body(bytes);
		return;
	}
	add(kind == 1 ? PICK(bare) : PICK(starts));
	add("\r\n");
	add(PICK(fields));
	if (kind > 2 && kind < 9) {
		snprintf(line, sizeof(line), PICK(lengths), bytes);
		add(line);
		if (kind == 3)
			add(line);
	} else if (kind > 2) {
		add(PICK(codings));
	}
	add(PICK(fields));
	add("\r\n");
	if (to_head || kind == 1)
		return;
	if (kind > 8)
		add_chunks();
	else
		add_body(bytes);
}

static void mutate(void)
{
	static const __u8 likely[] = "\r\n :;\t0aA\0\xff";

	for (__u32 change = below(MOST_MUTATIONS + 1); change > 0 && length > 1; change--) {
		__u32 at = below((__u32)length);

		switch (below(3)) {
		case 0:
			stream[at] = likely[below(sizeof(likely) - 1)];
			break;
		case 1:
			memmove(stream + at, stream + at + 1, length - at - 1);
			length--;
			break;
		default:
			stream[at] ^= (__u8)(1 << below(8));
		}
	}
	if (below(4) == 0)
		length = below((__u32)length + 1);
}

/* --- the simple reader */

/* Which requests have the method HEAD, from 1 on; `several`: two waited at one time. */
struct heads {
	int is_head[MOST_ANSWERS + 2];
	int several;
};

/* The line at *at, without CR LF, and moves on; NULL: not whole, or with other line ends. */
static const char *take_line(size_t *at, size_t *bytes)
{
	const char *line = (const char *)stream + *at;

	for (size_t i = *at; i + 1 < length; i++) {
		if (stream[i] == '\n' || stream[i] == 0)
			return NULL;
		if (stream[i] != '\r')
			continue;
		if (stream[i + 1] != '\n')
			return NULL;
		*bytes = i - *at;
		*at = i + 2;
		return line;
	}
	return NULL;
}

/* The value of a field, without the white space around it. */
static const char *trimmed(const char *value, size_t *bytes)
{
	while (*bytes > 0 && (*value == ' ' || *value == '\t')) {
		value++;
		--*bytes;
	}
	while (*bytes > 0 && (value[*bytes - 1] == ' ' || value[*bytes - 1] == '\t'))
		--*bytes;
	return value;
}

/* Where the answer at `at` ends; 0: that is not known, or not here yet. */
static size_t read_answer(size_t at, int to_head, int several)
{
	int status, minor, has_length, has_coding;
	unsigned long long body;
	size_t bytes;

	do {
		const char *line = take_line(&at, &bytes);

		if (!line || bytes < 12 || memcmp(line, "HTTP/1.", 7) != 0 ||
		    (line[7] != '0' && line[7] != '1') || line[8] != ' ' || line[9] < '1' ||
		    line[9] > '9' || line[10] < '0' || line[10] > '9' || line[11] < '0' ||
		    line[11] > '9' || (bytes > 12 && line[12] != ' '))
			return 0;
		minor = line[7] - '0';
		status = atoi(line + 9);
		has_length = has_coding = 0;
		body = 0;
		while ((line = take_line(&at, &bytes)) && bytes > 0) {
			const char *colon = memchr(line, ':', bytes);
			size_t name = colon ? (size_t)(colon - line) : 0;
			size_t rest = colon ? bytes - name - 1 : 0;
			const char *value = colon ? trimmed(colon + 1, &rest) : NULL;

			if (name == 0)
				return 0;
			for (size_t i = 0; i < name; i++) {
				if ((__u8)line[i] <= ' ')
					return 0;
			}
			if (name == 14 && strncasecmp(line, "content-length", 14) == 0) {
				if (has_length++ || rest == 0 || rest > 15 ||
				    strspn(value, "0123456789") < rest)
					return 0;
				body = strtoull(value, NULL, 10);
			}
			if (name == 17 && strncasecmp(line, "transfer-encoding", 17) == 0 &&
			    (has_coding++ || rest != 7 || strncasecmp(value, "chunked", 7) != 0))
				return 0;
		}
		if (!line || status == 101)
			return 0;
	} while (status < 200);
	if (several)
		return 0;
	if (to_head || status == 204 || status == 304)
		return at;
	if (has_length && !has_coding)
		return body <= length - at ? at + body : 0;
	if (!has_coding || has_length || minor == 0)
		return 0;
	for (;;) {
		const char *line = take_line(&at, &bytes);
		size_t digits = line ? strspn(line, "0123456789abcdefABCDEF") : 0;

		if (digits == 0 || digits > 15 || (digits < bytes && !strchr("; \t", line[digits])))
			return 0;
		body = strtoull(line, NULL, 16);
		if (body == 0)
			break;
		if (body > length - at || length - at - body < 2 || stream[at + body] != '\r' ||
		    stream[at + body + 1] != '\n')
			return 0;
		at += body + 2;
	}
	while (take_line(&at, &bytes)) {
		if (bytes == 0)
			return at;
	}
	return 0;
}

/* --- comparison */

static void check_state(const struct answers *answers)
{
	static const __u8 zero[sizeof(answers->pad)];

	require(answers->phase <= ANSWERS_LAST_LF, "the phase is one of the list");
	require((answers->framing & ~FRAMINGS) == 0, "framing has known bits only");
	require(memcmp(answers->pad, zero, sizeof(zero)) == 0, "the padding is 0");
	require(!answers_skip(answers) || answers->rest > 0, "a body to skip has bytes");
}

static void check_stream(const struct heads *heads)
{
	struct answers answers = { .phase = ANSWERS_ENDED };
	size_t at = 0, expected = 0;
	__u32 known = 0;

	if (heads->several) {
		answers_expect_head(&answers, 1);
		answers_expect_head(&answers, 2);
	}
	while (at < length) {
		__u32 before = answers.ended;

		if (answers.phase == ANSWERS_ENDED) {
			if (heads->is_head[before + 1] && !heads->several)
				answers_expect_head(&answers, before + 1);
			known = before + 1;
			expected = read_answer(at, heads->is_head[known], heads->several);
		}
		if (answers_skip(&answers)) {
			size_t most = length - at;
			__u32 bytes = 1 + below(80);

			if (bytes > most)
				bytes = (__u32)most;
			if (bytes > answers.rest)
				bytes = (__u32)answers.rest;
			answers_skipped(&answers, bytes);
			at += bytes;
		} else {
			answers_byte(&answers, stream[at++]);
			inputs++;
		}
		check_state(&answers);
		if (answers.phase == ANSWERS_UNFOLLOWED) {
			require(answers.ended == before, "no answer ends where it is lost");
			require(expected == 0, "an answer that is clear is followed");
			answers_byte(&answers, stream[at < length ? at : 0]);
			require(answers.phase == ANSWERS_UNFOLLOWED, "what is lost stays lost");
			unfollowed++;
			return;
		}
		if (answers.ended != before) {
			require(answers.ended == known, "answers end one by one");
			require(answers.phase == ANSWERS_ENDED, "behind an answer nothing is open");
			require(expected == at, "an answer ends where the simple reader ends it");
			ended++;
			if (known > MOST_ANSWERS)
				return;
		}
	}
	require(expected == 0 || answers.ended == known, "no end of an answer is missed");
}

int main(int count, char **arguments)
{
	unsigned long rounds = count > 1 ? strtoul(arguments[1], NULL, 10) : 1000;

	random_state = (count > 2 ? strtoull(arguments[2], NULL, 10) : 1) * 0x9e3779b97f4a7c15ULL;
	if (random_state == 0)
		random_state = 1;
	for (unsigned long round = 0; round < rounds; round++) {
		struct heads heads = { .several = below(16) == 0 };

		length = 0;
		for (__u32 answer = 1; answer <= MOST_ANSWERS; answer++) {
			heads.is_head[answer] = below(6) == 0;
			add_answer(heads.is_head[answer]);
		}
		if (below(2))
			mutate();
		check_stream(&heads);
	}
	printf("inputs %lu, answers that ended %lu, streams that were lost %lu\n", inputs, ended,
	       unfollowed);
	return 0;
}
