/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets of virtual servers with mode forward. The first packet of a flow chooses a node, the
 * others follow it; only MAC addresses change. No engine is needed: the main thread has written
 * what there is to choose from.
 */
#ifndef BATON_XDP_FORWARD_H
#define BATON_XDP_FORWARD_H

#include "xdp-forward-nodes.h"

#define TCP_CHECK_OFFSET 16
#define UDP_CHECK_OFFSET 6

/*
 * True if the sender left the checksum to hardware that was not on the way: see is_unfinished.
 * `bytes`: of the transport header and what follows it. A UDP checksum of 0 is none (RFC 768).
 */
static __always_inline int is_unfinished_packet(const struct iphdr *ip, __u32 bytes, __be16 check)
{
	__u64 sum = (__u64)ip->saddr + ip->daddr + BE16(ip->protocol) + (__u64)BE16(bytes);
	__u16 folded = (__u16)~checksum_fold64(sum);

	return check == folded && (check || ip->protocol == IPPROTO_TCP);
}

/* Sends a frame to a node with new MAC addresses. */
static __always_inline int send_packet(struct xdp_md *ctx, __u32 slot, __u32 node, __u32 unfinished)
{
	const struct xdp_node *to = bpf_map_lookup_elem(&nodes, &node);
	struct ethhdr *eth = (void *)(long)ctx->data;
	__u32 bytes = ctx->data_end - ctx->data;

	if (!to || !to->interface) {
		count(XDP_FORWARD_NO_NODE);
		return XDP_DROP;
	}
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	unfinished |= to->interface == OWN_STACK;
	if (unfinished && !forward_through_stack(ctx, to)) {
		count(XDP_FORWARD_UNFINISHED);
		return XDP_DROP;
	}
	count_forwarded(slot, bytes);
	count_forwarded(MOST_SERVERS + node, bytes);
	if (unfinished)
		return XDP_PASS;
	write_macs(eth, to);
	return send_to_node(ctx, to);
}

/* The same for frames that are not frequent. */
static __noinline int send_forwarded(struct xdp_md *ctx, __u32 slot, __u32 node)
{
	return send_packet(ctx, slot, node, 0);
}

/* A fragment after the first one: it has no ports, and follows the first one. */
static __noinline int forward_fragment(struct xdp_md *ctx, const struct xdp_control *us,
                                       __u32 first_range, __u32 client, __u32 identification)
{
	const struct forward_range *range = bpf_map_lookup_elem(&forward_ranges, &first_range);

	if (!range)
		return XDP_PASS;

	__u32 slot = range->slot;
	const struct forward_server *server = bpf_map_lookup_elem(&forward_servers, &slot);

	if (!server)
		return XDP_PASS;

	__u32 owner = flow_owner(slot, FORWARD_FRAGMENT);
	__u32 ports = identification << 16;
	const struct forward_flow *flow =
		flow_at(search_flow(client | (__u64)ports << 32, owner,
	                            flow_hash(server, client, ports, owner), us->forward_sets - 1));

	if (!flow || !(node_state(flow->node) & FORWARD_KEEPS)) {
		count(XDP_FORWARD_FRAGMENT_LOST);
		return XDP_DROP;
	}
	return send_forwarded(ctx, slot, flow->node);
}

/* Remembers the node of a first fragment for the later ones. */
static __noinline int note_fragment(const struct xdp_control *us, __u32 first_range, __u32 client,
                                    __u32 identification, __u32 node)
{
	const struct forward_range *range = bpf_map_lookup_elem(&forward_ranges, &first_range);

	if (!range)
		return 0;

	__u32 slot = range->slot;
	const struct forward_server *server = bpf_map_lookup_elem(&forward_servers, &slot);

	if (!server)
		return 0;

	__u32 owner = flow_owner(slot, FORWARD_FRAGMENT);
	__u32 ports = identification << 16;
	__u64 key = client | (__u64)ports << 32;
	__u32 hash = flow_hash(server, client, ports, owner);
	__u32 mask = us->forward_sets - 1;
	struct forward_flow *flow = flow_at(search_flow(key, owner, hash, mask));

	if (flow)
		*(volatile __u64 *)&flow->node =
			owner_node(owner, node) | (__u64)forward_tick() << 32;
	else
		add_flow(key, owner_node(owner, node), hash, mask, forward_tick());
	return 0;
}

/* An entry of map `inline_spans` as one word. */
union span_entry {
	__u64 word;
	struct inline_span is;
};

/*
 * Reads the port ranges of an address and transport protocol. False if it has none. `spans` may
 * have an address or not while the main thread changes it, the hash table always has it.
 */
static __always_inline int read_span(__be32 address, __u32 transport, struct forward_span *span)
{
	__u32 zero = 0;
	const struct inline_spans *spans = bpf_map_lookup_elem(&inline_spans, &zero);

	if (!spans)
		return 0;
#pragma unroll
	for (__u32 i = 0; i < INLINE_SPANS; i++) {
		union span_entry entry = {
			.word = *(const volatile __u64 *)&spans->entry[i],
		};

		if (entry.is.address == address &&
		    entry.is.span >> SPAN_TRANSPORT_SHIFT == transport) {
			span->first = entry.is.span & SPAN_MASK;
			span->count = entry.is.span >> SPAN_COUNT_SHIFT & SPAN_MASK;
			return 1;
		}
	}

	const struct forward_span *found = forward_span_of(address, transport);

	if (found)
		*span = *found;
	return found != NULL;
}

static __always_inline int drop_malformed(void)
{
	count(XDP_FORWARD_MALFORMED);
	return XDP_DROP;
}

/*
 * Handles an IPv4 packet that is for no virtual server with mode handoff. XDP_PASS if it is for
 * none with mode forward either.
 */
static __noinline int receive_forward(struct xdp_md *ctx, const struct xdp_control *us)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;

	if ((void *)(ip + 1) > data_end)
		return XDP_PASS;

	__u32 protocol = ip->protocol;
	struct forward_span span;

	if (!read_span(ip->daddr, protocol, &span))
		return XDP_PASS;

	__u32 client = BE32(ip->saddr);
	__u32 identification = BE16(ip->id);
	__u32 header = ip->ihl * 4;
	__u32 total = BE16(ip->tot_len);

	if (header < IPV4_BYTES || total < header || total > (__u32)(data_end - (void *)ip))
		return drop_malformed();
	if (ip->frag_off & BE16(IPV4_OFFSET_MASK))
		return forward_fragment(ctx, us, span.first, client, identification);

	__u8 *transport = (void *)ip + header;
	struct ports *ports = (void *)transport;

	/* A UDP header is the shorter one. */
	if (total < header + UDP_BYTES || (void *)(transport + UDP_BYTES) > data_end)
		return drop_malformed();

	__u32 port = BE16(ports->destination);
	__u32 slot = forward_find_port(span.first, span.count, port);

	if (slot == NO_SERVER)
		return XDP_PASS;

	struct forward_server *server = bpf_map_lookup_elem(&forward_servers, &slot);

	if (!server || !(server->flags & FORWARD_IN_USE))
		return XDP_DROP;

	struct forward_packet packet = {
		.slot = slot,
		.client = client,
		.ports = (__u32)BE16(ports->source) << 16 | port,
		.opens = 1,
	};
	__be16 check = *(__be16 *)(transport + UDP_CHECK_OFFSET);

	if (protocol == IPPROTO_TCP) {
		if (total < header + TCP_BYTES || (void *)(transport + TCP_BYTES) > data_end)
			return drop_malformed();
		packet.flags = transport[TCP_FLAG_BYTE];
		packet.opens = (packet.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
		check = *(__be16 *)(transport + TCP_CHECK_OFFSET);
	}

	__u32 fragment = ip->frag_off & BE16(IPV4_FRAGMENT_MASK);
	__u32 unfinished = !fragment && is_unfinished_packet(ip, total - header, check);
	__u32 node;

	if (server->buckets) {
		node = bucket_node(server, &packet);
		if (packet.flags && packet.opens && node != NO_NODE) {
			count_flow(slot);
			count_flow(MOST_SERVERS + node);
		}
	} else {
		node = flow_node(us, server, &packet);
	}
	if (fragment && node != NO_NODE)
		note_fragment(us, span.first, client, identification, node);
	return send_packet(ctx, slot, node, unfinished);
}

/*
 * Sends an ICMP error about a packet of a virtual server with mode forward to the node that sent
 * the packet. The caller has checked the length. XDP_PASS if it is about none.
 */
static __noinline int receive_forward_icmp(struct xdp_md *ctx, const struct xdp_control *us)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;

	if ((void *)(ip + 1) > data_end)
		return XDP_PASS;

	struct iphdr *inner = (void *)ip + ip->ihl * 4 + ICMP_HEADER_BYTES;
	struct ports *ports = (void *)(inner + 1);

	/* RFC 792: eight bytes of the packet at least. */
	if ((void *)(ports + 2) > data_end)
		return XDP_PASS;

	__u32 port = BE16(ports->source);
	__u32 slot = find_forward(inner->saddr, inner->protocol, port);
	struct forward_server *server = bpf_map_lookup_elem(&forward_servers, &slot);

	if (slot == NO_SERVER || !server)
		return XDP_PASS;

	struct forward_packet packet = {
		.slot = slot,
		.client = BE32(inner->daddr),
		.ports = (__u32)BE16(ports->destination) << 16 | port,
	};
	__u32 node = NO_NODE;

	if (server->buckets) {
		node = node_of_bucket(bucket_of(server, &packet));
	} else {
		__u32 owner = flow_owner(slot, FORWARD_FLOW);
		const struct forward_flow *flow = flow_at(search_flow(
			packet.client | (__u64)packet.ports << 32, owner,
			flow_hash(server, packet.client, packet.ports, owner),
			us->forward_sets - 1));

		if (flow && node_state(flow->node) & FORWARD_KEEPS)
			node = flow->node;
	}
	if (node == NO_NODE) {
		count(XDP_FORWARD_ICMP_LOST);
		return XDP_DROP;
	}
	count(XDP_FORWARD_ICMP);
	return send_forwarded(ctx, slot, node);
}

#endif
