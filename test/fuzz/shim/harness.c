/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs parsers, hashes and packet writers of the BPF programs natively, under the address and
 * undefined-behaviour sanitizers. The verifier proves that a program reads nothing beyond data_end.
 * This also tests that a parser accepts no inconsistent lengths.
 *
 *     harness ROUNDS SEED    each round: every seed frame, mutated, truncated at any length
 *
 * Prints "inputs N" at the end. If a property does not hold, prints it and exits with 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "packet.h"
#include "parse.h"
#include "siphash.h"

#define MOST_BYTES 160
#define MOST_MUTATIONS 4
/* Two bytes before the frame align its headers to 4 bytes, as in a socket buffer. */
#define FRAME_PAD 2

struct seed {
	const char *name;
	__u8 bytes[MOST_BYTES];
	size_t length;
};

static __u64 random_state;
static unsigned long inputs;
static unsigned long parsed_ixp;
static unsigned long parsed_tcp;
/* Keeps the compiler from removing reads. */
static volatile __u64 sink;

static const __u8 key[BATON_KEY_BYTES] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

static const struct session_key tuple = {
	.client = BE32(0x0a4d0001),
	.virtual_addr = BE32(0x0a4d0064),
	.client_port = BE16(40000),
	.virtual_port = BE16(80),
};

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

static __u32 sum_words(const void *at, size_t bytes, __u32 sum)
{
	const __u8 *byte = at;

	for (size_t i = 0; i < bytes; i += 2)
		sum += (__u32)byte[i] << 8 | byte[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Vectors of the reference implementation, for messages of whole words: bytes 0, 1, 2... */
static void check_siphash(void)
{
	union {
		__u8 bytes[56];
		__u64 words[7];
	} message;

	for (size_t i = 0; i < sizeof(message.bytes); i++)
		message.bytes[i] = (__u8)i;
	require(siphash(key, message.words, 0) == 0x726fdb47dd0e0e31ULL, "SipHash of 0 bytes");
	require(siphash(key, message.words, 1) == 0x93f5f5799a932462ULL, "SipHash of 8 bytes");
	require(siphash(key, message.words, 2) == 0x3f2acc7f57c29bdbULL, "SipHash of 16 bytes");
	require(siphash(key, message.words, 3) == 0xb8ad50c6f649af94ULL, "SipHash of 24 bytes");
	require(siphash(key, message.words, 4) == 0x7127512f72f27cceULL, "SipHash of 32 bytes");
	require(siphash(key, message.words, 5) == 0x0e3ea96b5304a7d0ULL, "SipHash of 40 bytes");
	require(siphash(key, message.words, 6) == 0xe612a3cb9ecba951ULL, "SipHash of 48 bytes");
	require(siphash(key, message.words, 7) == 0xb78dbfaf3a8d83bdULL, "SipHash of 56 bytes");
}

static void make_tcp(struct tcphdr *tcp)
{
	memset(tcp, 0, sizeof(*tcp));
	tcp->source = tuple.client_port;
	tcp->dest = tuple.virtual_port;
	tcp->seq = BE32(0x11223344);
	tcp->ack_seq = BE32(0x55667788);
	tcp->doff = 5;
	tcp->ack = 1;
}

/* Makes a frame of Ethernet, IPv4 and the given parts. */
static void make_frame(struct seed *seed, const char *name, __u8 protocol, const void *first,
                       size_t first_bytes, const void *second, size_t second_bytes)
{
	struct ethhdr eth = { .h_proto = BE16(ETH_P_IP) };
	struct iphdr ip;
	__u8 *at = seed->bytes;

	fill_ipv4(&ip, tuple.client, tuple.virtual_addr, protocol,
	          (__u16)(sizeof(ip) + first_bytes + second_bytes));
	memcpy(at, &eth, sizeof(eth));
	memcpy(at + IPV4_OFFSET, &ip, sizeof(ip));
	memcpy(at + IPV4_OFFSET + sizeof(ip), first, first_bytes);
	memcpy(at + IPV4_OFFSET + sizeof(ip) + first_bytes, second, second_bytes);
	seed->name = name;
	seed->length = IPV4_OFFSET + sizeof(ip) + first_bytes + second_bytes;
}

static size_t make_seeds(struct seed *seeds)
{
	struct {
		struct tcphdr header;
		__u8 payload[24];
	} tcp;
	struct ixp_hdr ixp;
	struct notice_frame notice_frame;
	struct shim_config config = { .own = BE32(0x0a4d0003) };
	struct notice notice = {
		.type = IXCP_FIN,
		.session = BE32(7),
		.balancer = BE32(0x0a4d0002),
		.tuple = tuple,
	};

	make_tcp(&tcp.header);
	memset(tcp.payload, 'x', sizeof(tcp.payload));
	memset(&ixp, 0, sizeof(ixp));
	ixp.version = BATON_VERSION;
	ixp.type = IXP_ADOPT;
	ixp.length = IXP_LENGTH;
	ixp.session = BE32(7);
	ixp.balancer = BE32(0x0a4d0002);
	ixp.tag = ixp_tag(key, &tuple, tcp.header.seq, tcp.header.ack_seq, &ixp);
	make_frame(&seeds[0], "IXP", BATON_IPPROTO_IXP, &ixp, sizeof(ixp), &tcp, sizeof(tcp));
	make_frame(&seeds[1], "TCP", IPPROTO_TCP, &tcp, sizeof(tcp), "", 0);

	memcpy(config.key, key, sizeof(key));
	memset(&notice_frame, 0xa5, sizeof(notice_frame));
	fill_notice(&notice_frame, &notice, &config);
	seeds[2].name = "IXCP";
	seeds[2].length = NOTICE_FRAME_BYTES;
	memcpy(seeds[2].bytes, &notice_frame.eth, NOTICE_FRAME_BYTES);
	return 3;
}

/* Parses an IXP frame and checks the result. True if the tag verifies. */
static int check_ixp(__u8 *frame, size_t readable, size_t whole)
{
	struct ixp_view view;

	if (parse_ixp(frame, frame + readable, (__u32)whole, &view) != PARSE_OK)
		return 0;

	__u32 total = BE16(view.ip->tot_len);

	parsed_ixp++;
	require(readable >= (size_t)IXP_FRAME_BYTES, "IXP headers are readable");
	require(IPV4_OFFSET + total <= whole, "IXP packet within its frame");
	require(IPV4_BYTES + IXP_LENGTH + view.tcp->doff * 4 + view.payload == total,
	        "IXP headers and payload make the total length");
	require(view.payload <= total, "IXP payload within its packet");
	require(view.ip->version == 4 && view.ip->ihl == 5, "IXP packet without options");
	require((BE16(view.ip->frag_off) & IPV4_FRAGMENT_MASK) == 0, "IXP packet no fragment");
	sink += tcp_flags(view.tcp);

	struct session_key found = {
		.client = view.ip->saddr,
		.virtual_addr = view.ip->daddr,
		.client_port = view.tcp->source,
		.virtual_port = view.tcp->dest,
	};

	return ixp_tag(key, &found, view.tcp->seq, view.tcp->ack_seq, view.ixp) == view.ixp->tag;
}

static void check_tcp(__u8 *frame, size_t readable)
{
	struct tcp_view view;

	if (parse_tcp(frame, frame + readable, &view) != PARSE_OK)
		return;
	parsed_tcp++;
	require(readable >= (size_t)TCP_FRAME_BYTES, "TCP headers are readable");
	require(view.ip->protocol == IPPROTO_TCP, "TCP is TCP");
	sink += view.tcp->ack_seq + tcp_flags(view.tcp);

	/* A checksum that was updated word by word equals a new one. */
	__u16 word = (__u16)random_u32();
	__u16 ttl_word;

	memcpy(&ttl_word, &view.ip->ttl, sizeof(ttl_word));
	view.ip->check = 0;
	view.ip->check = checksum_fold(checksum_add(view.ip, sizeof(*view.ip) / 2, 0));
	view.ip->check = checksum_replace(view.ip->check, ttl_word, word);
	memcpy(&view.ip->ttl, &word, sizeof(word));
	require(sum_words(view.ip, sizeof(*view.ip), 0) == 0xffff, "checksum after a change");
}

/* Gives one input to the parsers, in a buffer of exactly its length: this detects any overread. */
static int feed(const __u8 *bytes, size_t length, size_t whole)
{
	__u8 *buffer = malloc(FRAME_PAD + length);
	__u8 *frame = buffer + FRAME_PAD;
	int genuine;

	memcpy(frame, bytes, length);
	sink += (__u64)parse_protocol(frame, frame + length);
	genuine = check_ixp(frame, length, whole);
	check_tcp(frame, length);
	free(buffer);
	inputs++;
	return genuine;
}

/* True if the tag or a check of the parser covers this byte of an IXP frame. */
static int covered(size_t at)
{
	size_t ixp = IPV4_OFFSET + IPV4_BYTES;
	size_t addresses = IPV4_OFFSET + __builtin_offsetof(struct iphdr, saddr);

	return at >= addresses && at < ixp + IXP_LENGTH + 12;
}

static void mutate(const struct seed *seed)
{
	__u8 bytes[MOST_BYTES];
	__u32 mutations = random_u32() % (MOST_MUTATIONS + 1);

	memcpy(bytes, seed->bytes, seed->length);
	for (__u32 i = 0; i < mutations; i++) {
		__u32 how = random_u32();
		size_t at = random_u32() % seed->length;

		/* Half of the mutations hit the first bytes of the headers: versions, lengths. */
		if (how & 1)
			at = IPV4_OFFSET + random_u32() % 28;
		bytes[at] = how & 2 ? (__u8)(how >> 8) : bytes[at] ^ (__u8)(1 << (how >> 8 & 7));
	}

	int forged = 0;

	for (size_t at = 0; at < seed->length; at++)
		forged |= bytes[at] != seed->bytes[at] && covered(at);
	for (size_t length = 0; length <= seed->length; length++) {
		/* Truncated, and with the rest of the frame in memory that cannot be read. */
		int genuine = feed(bytes, length, length);

		require(!(genuine && forged), "a changed IXP header does not verify");
		genuine = feed(bytes, length, seed->length);
		require(!(genuine && forged), "a changed IXP header does not verify");
	}
}

/* A parser reads the packets that the programs write, and their checksums are right. */
static void check_built(void)
{
	struct {
		__u8 pad[FRAME_PAD];
		struct ethhdr eth;
		struct bare_packet packet;
	} __attribute__((aligned(4))) frame;
	struct tcp_view view;
	__u32 seq = random_u32();
	__u32 ack = random_u32();
	struct session_key other = {
		.client = random_u32(),
		.virtual_addr = random_u32(),
		.client_port = (__be16)random_u32(),
		.virtual_port = (__be16)random_u32(),
	};

	memset(&frame, 0xa5, sizeof(frame));
	__u8 flags = (__u8)random_u32();
	__u16 window = (__u16)random_u32();

	fill_bare(&frame.packet, &other, seq, ack, flags, window);
	require(parse_tcp(&frame.eth, &frame + 1, &view) == PARSE_OK, "a bare segment is TCP");
	require(view.tcp->seq == BE32(seq) && ((__u8 *)view.tcp)[TCP_FLAG_BYTE] == flags,
	        "a bare segment has its number and flags");
	require(view.tcp->ack_seq == BE32(ack), "a bare segment has its acknowledgement number");
	require(view.tcp->window == BE16(window), "a bare segment has its window");
	require(view.ip->saddr == other.client && view.tcp->dest == other.virtual_port,
	        "a bare segment is of its session");
	require(sum_words(view.ip, sizeof(*view.ip), 0) == 0xffff,
	        "IPv4 checksum of a bare segment");

	__u32 pseudo = sum_words(&view.ip->saddr, 8, IPPROTO_TCP + sizeof(*view.tcp));

	require(sum_words(view.tcp, sizeof(*view.tcp), pseudo) == 0xffff,
	        "TCP checksum of a bare segment");
}

static void check_seeds(const struct seed *seeds)
{
	struct ixcp_hdr ixcp;
	__be64 tag;

	require(feed(seeds[0].bytes, seeds[0].length, seeds[0].length), "the IXP seed verifies");
	memcpy(&ixcp, seeds[2].bytes + IPV4_OFFSET + IPV4_BYTES, sizeof(ixcp));
	tag = ixcp_tag(key, BE32(0x0a4d0003), BE32(0x0a4d0002), &ixcp);
	require(tag == ixcp.tag, "the IXCP seed verifies");
	ixcp.hole = 0x1234;
	require(ixcp_tag(key, BE32(0x0a4d0003), BE32(0x0a4d0002), &ixcp) == tag,
	        "the hole is not tagged");
	ixcp.flags = 0x1234;
	require(ixcp_tag(key, BE32(0x0a4d0003), BE32(0x0a4d0002), &ixcp) != tag,
	        "what is behind the hole is tagged");
	require(sum_words(seeds[2].bytes + IPV4_OFFSET, IPV4_BYTES, 0) == 0xffff,
	        "IPv4 checksum of a notice");
}

int main(int argc, char **argv)
{
	static struct seed seeds[3];
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;

	random_state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	if (random_state == 0)
		random_state = 1;
	check_siphash();

	size_t count = make_seeds(seeds);

	check_seeds(seeds);
	for (unsigned long round = 0; round < rounds; round++) {
		for (size_t i = 0; i < count; i++)
			mutate(&seeds[i]);
		check_built();
	}
	require(rounds < 100 || (parsed_ixp > inputs / 100 && parsed_tcp > inputs / 100),
	        "enough inputs get past the parsers");
	printf("inputs %lu, of them read as IXP %lu, as TCP %lu\n", inputs, parsed_ixp, parsed_tcp);
	return 0;
}
