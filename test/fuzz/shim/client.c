/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs the XDP program's parser of clients' segments (client.h) and its cookies (cookie.h)
 * natively, under the address and undefined-behaviour sanitizers. Each result is compared with a
 * slow and simple version.
 *
 *     client ROUNDS SEED     rounds of a SYN with random options, mutated, truncated
 *
 * Prints "inputs N" at the end. If a property does not hold, prints it and exits with 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "cookie.h"

#define MOST_BYTES 128
#define MOST_MUTATIONS 3
/* Two bytes before the frame align its headers to 4 bytes, as in a receive buffer. */
#define FRAME_PAD 2
#define TCP_AT (IPV4_OFFSET + IPV4_BYTES)
#define OPTIONS_AT (TCP_AT + TCP_BYTES)

static __u64 random_state;
static unsigned long inputs;
static unsigned long parsed;
static unsigned long read_whole;

/* xorshift64*: Vigna, 2016. */
static __u32 random_u32(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (__u32)((random_state * 2685821657736338717ULL) >> 32);
}

static void require(int condition, const char *property)
{
	if (condition)
		return;
	printf("broken after %lu inputs: %s\n", inputs, property);
	exit(1);
}

static __u32 sum_bytes(const __u8 *bytes, size_t length, __u32 sum)
{
	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? bytes[i] : (__u32)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __u16 be16(const __u8 *at)
{
	return (__u16)(at[0] << 8 | at[1]);
}

static void put16(__u8 *at, __u32 value)
{
	at[0] = (__u8)(value >> 8);
	at[1] = (__u8)value;
}

/* The sum of the TCP pseudo-header of a frame. */
static __u32 pseudo_sum(const __u8 *frame)
{
	__u32 bytes = be16(frame + IPV4_OFFSET + 2) - IPV4_BYTES;

	return sum_bytes(frame + IPV4_OFFSET + 12, 8, IPPROTO_TCP + bytes);
}

/* A simple version of parse_options for bytes[0, length), by RFC 9293 section 3.1. */
struct syn_options {
	int whole;
	__u32 tsval, mss, shift, flags;
};

static struct syn_options read_options(const __u8 *bytes, size_t length)
{
	struct syn_options expected = { .mss = 536 };
	size_t at = 0;

	while (at < length && bytes[at] != 0) {
		if (bytes[at] == 1) {
			at++;
			continue;
		}
		if (at + 2 > length || bytes[at + 1] < 2 || at + bytes[at + 1] > length)
			return expected;

		const __u8 *value = bytes + at + 2;

		switch (bytes[at] << 8 | bytes[at + 1]) {
		case 2 << 8 | 4:
			expected.mss = be16(value);
			break;
		case 3 << 8 | 3:
			expected.shift = *value > 14 ? 14 : *value;
			expected.flags |= 1;
			break;
		case 4 << 8 | 2:
			expected.flags |= 2;
			break;
		case 8 << 8 | 10:
			expected.tsval = (__u32)be16(value) << 16 | be16(value + 2);
			expected.flags |= 4;
			break;
		}
		at += bytes[at + 1];
	}
	expected.whole = 1;
	return expected;
}

static void check_options(const struct segment *segment, const __u8 *end)
{
	const __u8 *options = (const __u8 *)segment->tcp + TCP_BYTES;
	size_t length = segment->tcp->doff * 4 - TCP_BYTES;
	struct syn_options expected = read_options(options, length);
	__u64 word = parse_options(options, (__u32)length, end);

	require(expected.whole == (word != 0), "options are well-formed or not");
	if (!word)
		return;
	read_whole++;
	require(offered_mss(word) == expected.mss, "MSS");
	require(offered_window_shift(word) == expected.shift, "window shift");
	require(offered_tsval(word) == expected.tsval, "TSval");
	require(offered_flags(word) == expected.flags, "flags of the options");
}

/* Gives one input to the parser, in a buffer of exactly its length: this detects any overread. */
static void feed(const __u8 *bytes, size_t length)
{
	__u8 *buffer = malloc(FRAME_PAD + length);
	__u8 *frame = buffer + FRAME_PAD;
	struct segment segment;

	memcpy(frame, bytes, length);
	inputs++;
	if (parse_segment(frame, frame + length, &segment)) {
		__u32 headers = IPV4_BYTES + segment.tcp->doff * 4;
		__u32 pseudo = pseudo_sum(frame);
		__u32 sum = sum_bytes(frame + TCP_AT, headers - IPV4_BYTES, pseudo);
		int right = sum_bytes(frame + IPV4_OFFSET, IPV4_BYTES, 0) == 0xffff;
		int left = be16(frame + TCP_AT + 16) == pseudo;

		parsed++;
		require(frame[IPV4_OFFSET] == 0x45, "IPv4 without options");
		require(IPV4_OFFSET + segment.total <= length, "a packet within its frame");
		require(headers + segment.payload == segment.total, "headers and payload");
		require(segment.seq == ((__u32)be16(frame + 38) << 16 | be16(frame + 40)), "seq");
		require(is_unfinished(&segment) == left, "a checksum left to hardware");
		if (segment.payload == 0)
			require(verify_bare(&segment, frame + length) ==
			                (right && (left || sum == 0xffff)),
			        "checksums of a bare segment");
		check_options(&segment, frame + length);
	}
	free(buffer);
}

/* Writes well-formed or malformed options. Returns their length, a multiple of 4. */
static size_t random_options(__u8 *to)
{
	static const __u8 usual[][10] = { { 1 },           { 2, 4, 5, 180 }, { 3, 3, 7 },
		                          { 3, 3, 200 },   { 4, 2 },         { 8, 10, 1, 2, 3, 4 },
		                          { 34, 4, 9, 9 }, { 5, 10, 1 },     { 0 } };
	size_t length = 0;

	for (__u32 count = random_u32() % 8; count > 0; count--) {
		const __u8 *option = usual[random_u32() % (sizeof(usual) / sizeof(usual[0]))];
		size_t bytes = option[0] < 2 ? 1 : option[1];

		if (length + bytes > MOST_OPTION_BYTES)
			break;
		memcpy(to + length, option, bytes);
		length += bytes;
	}
	while (length % 4)
		to[length++] = OPTION_NO_OPERATION;
	return length;
}

static size_t make_syn(__u8 *frame)
{
	struct iphdr ip;

	memset(frame, 0, MOST_BYTES);

	size_t options = random_options(frame + OPTIONS_AT);

	fill_ipv4(&ip, random_u32(), random_u32(), IPPROTO_TCP,
	          (__u16)(IPV4_BYTES + TCP_BYTES + options));
	memcpy(frame + IPV4_OFFSET, &ip, sizeof(ip));
	for (int i = 0; i < 12; i++)
		frame[TCP_AT + i] = (__u8)random_u32();
	frame[TCP_AT + 12] = (__u8)((TCP_BYTES + options) << 2);
	frame[TCP_AT + 13] = TCP_SYN;
	put16(frame + TCP_AT + 16,
	      random_u32() % 4 ? ~sum_bytes(frame + TCP_AT, TCP_BYTES + options, pseudo_sum(frame))
	                       : pseudo_sum(frame));
	return OPTIONS_AT + options;
}

static void mutate(void)
{
	__u8 frame[MOST_BYTES];
	size_t length = make_syn(frame);

	feed(frame, length);
	for (__u32 i = random_u32() % (MOST_MUTATIONS + 1); i > 0; i--) {
		__u32 how = random_u32();
		size_t at = IPV4_OFFSET + random_u32() % (length - IPV4_OFFSET);

		frame[at] = how & 1 ? (__u8)(how >> 8) : frame[at] ^ (__u8)(1 << (how >> 8 & 7));
	}
	for (size_t cut = 0; cut <= length; cut++)
		feed(frame, cut);
}

static void check_cookie_bits(void)
{
	static const __u16 values[32] = { 536,  576,  640,  768,  896,  966,  1024, 1120,
		                          1160, 1200, 1220, 1240, 1260, 1280, 1300, 1320,
		                          1340, 1350, 1360, 1370, 1380, 1390, 1400, 1410,
		                          1420, 1430, 1440, 1452, 1460, 4312, 8960, 16344 };
	__u32 index = 0;

	for (__u32 mss = 0; mss < 65536; mss++) {
		if (index < 31 && mss == values[index + 1])
			index++;
		require(cookie_mss_index(mss) == index, "index of an MSS");
	}
	require(cookie_bits(1460, 0xe7, 7) == (0x600U | 14 << 5 | 28), "bits of all options");
	require(cookie_bits(100, 0x77, 0) == 15 << 5, "bits of no options");
}

/* A cookie returns its bits, and is valid for its connection and periods only. */
static void check_cookie(void)
{
	__u8 secret[BATON_KEY_BYTES];
	struct syn_tuple tuple = { random_u32(), random_u32(), random_u32(), random_u32() };
	__u32 bits = random_u32() & COOKIE_MASK;
	__u32 ms = random_u32();

	for (size_t i = 0; i < sizeof(secret); i++)
		secret[i] = (__u8)random_u32();

	__u32 isn = cookie_isn(secret, &tuple, bits, ms);
	__u32 other = cookie_isn(secret, &tuple, bits ^ 1, ms);

	require((isn ^ other) == 1, "a cookie holds its bits");
	require(cookie_isn(secret, &tuple, bits, ms ^ 0xffff) == isn, "one cookie in a period");
	require(cookie_isn(secret, &tuple, bits, ms + 0x10000) != isn, "another cookie later");
	require(is_cookie(secret, &tuple, other, ms), "valid in its period");
	require(is_cookie(secret, &tuple, isn, ms + 0x10000), "valid in the next period");
	/* One random number in 2^20 is valid by chance: more of them here would be an error. */
	require(is_cookie(secret, &tuple, isn + 0x800, ms) +
	                        is_cookie(secret, &tuple, isn ^ 0x80000000, ms) +
	                        is_cookie(secret, &tuple, isn, ms + 0x20000) <
	                2,
	        "others are not");
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;

	random_state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	if (random_state == 0)
		random_state = 1;
	check_cookie_bits();
	for (unsigned long round = 0; round < rounds; round++) {
		mutate();
		check_cookie();
	}
	require(rounds < 100 || (parsed > rounds && read_whole > rounds), "enough inputs parsed");
	printf("inputs %lu, of them whole segments %lu, with whole options %lu\n", inputs, parsed,
	       read_whole);
	return 0;
}
