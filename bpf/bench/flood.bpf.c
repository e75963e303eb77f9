// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The two ends of a flood of small packets, for the benchmarks: `flood_send` makes each frame that
 * it is run over the next bare ACK of the next session, and sends it; `flood_take` counts what
 * comes back, and keeps it from the stack. Not installed, not attached by any program of Baton.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* The one entry of map `config`, key u32 0. Numbers in host byte order. */
struct flood_config {
	__u32 interface;    /*  0 frames leave by it */
	__u32 sessions;     /*  4 */
	__u32 first_client; /*  8 session i: client first_client + i / ports, port first_port + i % ports */
	__u16 first_port;   /* 12 */
	__u16 ports;        /* 14 */
	__u32 ip_sum;       /* 16 sum of the IPv4 header's words without checksum and source */
	__u32 tcp_sum;      /* 20 the same of pseudo header and TCP header, less port and acknowledgement */
	__u8 mac[12];       /* 24 destination, source */
	__u32 window;       /* 36 most frames under way; 0: as many as can be sent */
};

struct mac_words {
	__u32 word[3];
};

BATON_ASSERT(sizeof(struct flood_config) == 40, "flood_config");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flood_config);
} config SEC(".maps");

/* By session: the acknowledgement number. In pairs, so that user space finds them without gaps. */
struct two_words {
	__u32 word[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set at load */
	__type(key, __u32);
	__type(value, struct two_words);
} acknowledgements SEC(".maps");

#define COUNT_SENT 0
#define COUNT_TAKEN 1
#define COUNT_WAITED 2 /* steps of frames that had to wait for the window: without any, the sender is the slower one */
#define COUNTS 3

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/*
 * Frames that are known to have come back, or are given up: each by one CPU only, on a line of its
 * own.
 */
struct progress {
	__u64 taken;
	__u64 pad[7];
	__u64 lost;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct progress);
} progress SEC(".maps");

/* How often the window is looked at, in frames: what the other CPU writes is read that seldom. */
#define STEP 32
/*
 * Looks, each of some ns, until what has not come back is given up: 10 ms or more, as a thread may
 * wait for its CPU.
 */
#define MOST_LOOKS (1 << 22)

struct wait {
	const volatile struct progress *progress;
	__u64 sent;
	__u32 window;
};

static long look(__u32 index, struct wait *wait)
{
	(void)index;
	/* Below 0 when something that was given up has come back. */
	return (__s64)(wait->sent - wait->progress->taken - wait->progress->lost) <= (__s64)wait->window;
}

/*
 * Waits until no more frames than the window are under way. A frame that finds a ring full is
 * dropped and goes back to where frames are taken from, under the same lock as those that have come
 * back: it would keep waiting who forwards.
 */
static __always_inline void wait_for_window(__u64 sent, __u32 window)
{
	__u32 zero = 0, waited_index = COUNT_WAITED;
	struct progress *now = bpf_map_lookup_elem(&progress, &zero);
	__u64 *waited = bpf_map_lookup_elem(&counters, &waited_index);

	if (!now || !waited)
		return;

	struct wait wait = { .progress = now, .sent = sent, .window = window };
	long looks = bpf_loop(MOST_LOOKS, look, &wait, 0);

	if (looks > 1)
		*waited += 1;
	if (looks == MOST_LOOKS)
		now->lost = sent - now->taken;
}

static __always_inline __u16 folded(__u64 sum)
{
	sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return BE16(~sum);
}

static __always_inline __u64 halves(__u32 word)
{
	return (word >> 16) + (word & 0xffff);
}

SEC("xdp")
int flood_send(struct xdp_md *ctx)
{
	__u32 zero = 0, sent_index = COUNT_SENT;
	struct flood_config *flood = bpf_map_lookup_elem(&config, &zero);
	__u64 *sent = bpf_map_lookup_elem(&counters, &sent_index);
	char *data = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(data + IPV4_OFFSET);
	struct tcphdr *tcp = (void *)(ip + 1);

	if (!flood || !sent || (void *)(tcp + 1) > (void *)(long)ctx->data_end || !flood->ports || !flood->sessions)
		return XDP_DROP;

	if (flood->window && *sent % STEP == 0)
		wait_for_window(*sent, flood->window);

	__u32 session = *sent % flood->sessions;
	__u32 client = flood->first_client + session / flood->ports;
	__u16 port = flood->first_port + session % flood->ports;
	__u32 pair = session >> 1;
	struct two_words *words = bpf_map_lookup_elem(&acknowledgements, &pair);

	if (!words)
		return XDP_DROP;

	__u32 acknowledgement = words->word[session & 1];

	/* The frame is one that came back before, as whoever had it left it. */
	*(struct mac_words *)data = *(const struct mac_words *)flood->mac;
	ip->saddr = BE32(client);
	ip->check = folded(flood->ip_sum + halves(client));
	tcp->source = BE16(port);
	tcp->ack_seq = BE32(acknowledgement);
	tcp->check = folded(flood->tcp_sum + halves(client) + port + halves(acknowledgement));
	*sent += 1;
	return bpf_redirect(flood->interface, 0);
}

SEC("xdp")
int flood_take(struct xdp_md *ctx)
{
	__u32 taken_index = COUNT_TAKEN;
	__u64 *taken = bpf_map_lookup_elem(&counters, &taken_index);
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if (!taken || (void *)(ip + 1) > (void *)(long)ctx->data_end || eth->h_proto != BE16(ETH_P_IP) ||
	    ip->protocol != IPPROTO_TCP)
		return XDP_PASS;
	*taken += 1;
	if (*taken % STEP == 0) {
		__u32 zero = 0;
		struct progress *now = bpf_map_lookup_elem(&progress, &zero);

		if (now)
			__sync_fetch_and_add(&now->taken, STEP);
	}
	return XDP_DROP;
}
