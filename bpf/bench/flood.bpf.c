// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The two ends of a flood of small packets, for benchmarks. `flood_send` turns each frame that it
 * is run over into a bare ACK of the next session, and sends it. `flood_take` counts the frames
 * that come back, and drops them. They are not installed, and no program of Baton attaches them.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/*
 * The one entry of map `config`, key u32 0. Numbers in host byte order. Session i has the client
 * address first_client + i / ports and the port first_port + i % ports.
 */
struct flood_config {
	__u32 interface;    /*  0 that frames leave through */
	__u32 sessions;     /*  4 */
	__u32 first_client; /*  8 */
	__u16 first_port;   /* 12 */
	__u16 ports;        /* 14 */
	__u32 ip_sum;       /* 16 sum of the IPv4 header's words without checksum and source */
	__u32 tcp_sum;      /* 20 same: pseudo-header and TCP, without port, acknowledgement */
	__u8 mac[12];       /* 24 destination, source */
	__u32 window;       /* 36 most frames in flight; 0: no limit */
};

struct mac_words {
	__u32 word[3];
};

BATON_ASSERT(sizeof(struct flood_config) == 40, "flood_config");

/* Which frames are sent, and how many may be in flight? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flood_config);
} config SEC(".maps");

/* The acknowledgement numbers of two sessions: pairs leave no gaps in the memory of user space. */
struct two_words {
	__u32 word[2];
};

/* What does this session acknowledge? The key is the session's number divided by 2. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set at load */
	__type(key, __u32);
	__type(value, struct two_words);
} acknowledgements SEC(".maps");

/* WAITED counts the steps that had to wait for the window. If it is 0, the sender is the
 * bottleneck. */
#define COUNT_SENT 0
#define COUNT_TAKEN 1
#define COUNT_WAITED 2
#define COUNTS 3

/* How often did each of these happen? */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/*
 * Frames that have come back, and frames that are taken for lost. One CPU writes each field, on a
 * cache line of its own.
 */
struct progress {
	__u64 taken;
	__u64 pad[7];
	__u64 lost;
};

/* How many frames are no longer in flight? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct progress);
} progress SEC(".maps");

/* Frames between two checks of the window: reading what the other CPU writes is slow. */
#define STEP 32
/*
 * Checks, of some ns each, until missing frames are taken for lost: 10 ms or more, because a thread
 * may wait for its CPU.
 */
#define MOST_CHECKS (1 << 22)

struct wait {
	const volatile struct progress *progress;
	__u64 sent;
	__u32 window;
};

static long check_window(__u32 index, struct wait *wait)
{
	(void)index;
	/* Below 0 if a frame that was taken for lost has come back. */
	return (__s64)(wait->sent - wait->progress->taken - wait->progress->lost) <=
	       (__s64)wait->window;
}

/*
 * Waits until at most `window` frames are in flight. Without this, frames would find a ring full.
 * The kernel returns dropped frames to the page pool under the same lock as frames that came back,
 * which would delay the forwarding CPU.
 */
static __always_inline void wait_for_window(__u64 sent, __u32 window)
{
	__u32 zero = 0, waited_index = COUNT_WAITED;
	struct progress *now = bpf_map_lookup_elem(&progress, &zero);
	__u64 *waited = bpf_map_lookup_elem(&counters, &waited_index);

	if (!now || !waited)
		return;

	struct wait wait = { .progress = now, .sent = sent, .window = window };
	long checks = bpf_loop(MOST_CHECKS, check_window, &wait, 0);

	if (checks > 1)
		*waited += 1;
	if (checks == MOST_CHECKS)
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

	if (!flood || !sent || (void *)(tcp + 1) > (void *)(long)ctx->data_end || !flood->ports ||
	    !flood->sessions)
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

	/* The frame may have come back before, with any content. */
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

	if (!taken || (void *)(ip + 1) > (void *)(long)ctx->data_end ||
	    eth->h_proto != BE16(ETH_P_IP) || ip->protocol != IPPROTO_TCP)
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
