/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The tap of `baton capture` records frames as they arrive, and as the program sends them. None of
 * this runs while xdp_control.tap is 0.
 *
 * A frame that does not fit into the perf buffer of its CPU is counted and left out; the program
 * never waits for the reader. Programs that run at the start and end of this one (fentry, fexit)
 * would need BTF, a trampoline for the architecture, and a kernel that permits them, which a
 * hardened kernel does not.
 */
#ifndef BATON_XDP_TAP_H
#define BATON_XDP_TAP_H

#include "forward-ports.h"
#include "tap.h"
#include "xdp-maps.h"
#include "xdp-session.h"

#define VLAN_TAG_BYTES 4

/* Which frames does the capture want, and how many bytes of each? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tap_config);
} tap_config SEC(".maps");

/*
 * Which frames were seen on this CPU (struct tap_record)? A perf buffer for each CPU, during a
 * capture only. The loader sets the number of CPUs.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} tap_frames SEC(".maps");

static __always_inline int is_endpoint(const struct tap_config *want, __be32 address, __be16 port)
{
	return address == want->client && (!want->client_port || port == want->client_port);
}

/* Is this a packet of the wanted client, or about one? False for truncated packets. */
static __always_inline int is_of_client(const struct tap_config *want, const struct iphdr *ip,
                                        const void *data_end)
{
	const __u8 *next = (const __u8 *)ip + ip->ihl * 4;
	const struct iphdr *addresses = ip;

	if (!want->client)
		return 1;
	if (ip->protocol == BATON_IPPROTO_IXCP) {
		const struct ixcp_hdr *ixcp = (const void *)next;

		return (const void *)(ixcp + 1) <= data_end &&
		       is_endpoint(want, ixcp->client, ixcp->client_port);
	}
	if (ip->protocol == IPPROTO_ICMP) {
		addresses = (const void *)(next + ICMP_HEADER_BYTES);
		next = (const __u8 *)(addresses + 1);
	} else if (ip->protocol == BATON_IPPROTO_IXP) {
		next += IXP_LENGTH;
	}

	const struct ports *ports = (const void *)next;

	return (const void *)(ports + 1) <= data_end &&
	       (is_endpoint(want, addresses->saddr, ports->source) ||
	        is_endpoint(want, addresses->daddr, ports->destination));
}

/* Does this program handle an arriving packet, instead of leaving it to the stack? */
static __always_inline int is_for_baton(const struct iphdr *ip, const void *data_end)
{
	const struct ports *ports = (const void *)((const __u8 *)ip + ip->ihl * 4);

	if (ip->protocol == BATON_IPPROTO_IXCP)
		return 1;
	if (!bpf_map_lookup_elem(&virtual_addresses, &ip->daddr))
		return 0;
	if (ip->protocol == IPPROTO_ICMP)
		return 1;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return 0;
	if ((const void *)(ports + 1) > data_end)
		return ip->protocol == IPPROTO_TCP;

	struct guard_server server = { .address = ip->daddr, .port = ports->destination };

	if (ip->protocol == IPPROTO_TCP && bpf_map_lookup_elem(&virtual_servers, &server))
		return 1;
	return find_forward(ip->daddr, ip->protocol, BE16(ports->destination)) != NO_SERVER;
}

/* The same for IPv6. */
static __always_inline int is_for_baton6(const struct ipv6hdr *ip, const void *data_end)
{
	const struct ports *ports = (const void *)(ip + 1);
	const __be32 *alias = bpf_map_lookup_elem(&ipv6_aliases, &ip->daddr);

	if (!alias)
		return 0;
	if (ip->nexthdr != IPPROTO_TCP)
		return ip->nexthdr == IPPROTO_ICMPV6 || is_extension(ip->nexthdr);
	if ((const void *)(ports + 1) > data_end)
		return 1;

	struct guard_server server = {
		.address = *alias,
		.port = ports->destination,
		.family = FAMILY_IPV6,
	};

	return bpf_map_lookup_elem(&virtual_servers, &server) != NULL;
}

/*
 * Does the capture want this packet, which stands behind the Ethernet header? A client can only be
 * named by an IPv4 address.
 */
static __always_inline int is_wanted(const struct tap_config *want, const struct iphdr *ip,
                                     const void *data_end, __u32 kind)
{
	const struct ipv6hdr *ip6 = (const void *)ip;

	if (ip->version == 4)
		return is_of_client(want, ip, data_end) &&
		       (kind != TAP_RECEIVED || is_for_baton(ip, data_end));
	return ip->version == 6 && !want->client && (const void *)(ip6 + 1) <= data_end &&
	       (kind != TAP_RECEIVED || is_for_baton6(ip6, data_end));
}

/* Does the lease of the capture still run? If not, this ends the capture. */
static __always_inline int is_tapped(struct xdp_control *us)
{
	__u8 until = us->tap;
	__s8 left = (__s8)(until - (__u8)(clock_ms() >> TAP_UNIT_SHIFT));

	/* The capture may have written 0, which is no time, since the caller read it. */
	if (until && left > 0 && left <= TAP_LONGEST)
		return 1;
	us->tap = 0;
	return 0;
}

/*
 * Records a frame as it is now. The function is global, so that the verifier checks it once,
 * separately. Its result has no meaning.
 */
__noinline int tap_frame(struct xdp_md *ctx, __u32 kind)
{
	__u32 zero = 0;
	struct xdp_control *us = bpf_map_lookup_elem(&control, &zero);
	const struct tap_config *want = bpf_map_lookup_elem(&tap_config, &zero);
	const void *data_end = (const void *)(long)ctx->data_end;
	const struct ethhdr *eth = (const void *)(long)ctx->data;
	const struct iphdr *ip = (const void *)(eth + 1);

	if (!us || !want || !is_tapped(us) || (const void *)(ip + 1) > data_end)
		return 0;
	if (eth->h_proto == BE16(ETH_P_8021Q)) {
		ip = (const void *)((const __u8 *)ip + VLAN_TAG_BYTES);
		if ((const void *)(ip + 1) > data_end)
			return 0;
	}
	if (!is_wanted(want, ip, data_end, kind))
		return 0;

	__u32 length = ctx->data_end - ctx->data;
	__u64 captured = length;

	if (captured > want->snap_length)
		captured = want->snap_length;
	if (captured > TAP_MOST_BYTES)
		captured = TAP_MOST_BYTES;

	struct tap_record record = {
		.time = bpf_ktime_get_ns(),
		.length = length,
		.captured = (__u32)captured,
		.kind = (__u8)kind,
	};

	if (bpf_perf_event_output(ctx, &tap_frames, captured << 32 | BPF_F_CURRENT_CPU, &record,
	                          sizeof(record)))
		count(XDP_TAP_LOST);
	return 0;
}

#endif
