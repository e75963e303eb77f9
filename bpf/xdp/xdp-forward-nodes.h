/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which node gets a packet of a virtual server with mode forward: that of its bucket or flow. */
#ifndef BATON_XDP_FORWARD_NODES_H
#define BATON_XDP_FORWARD_NODES_H

#include "xdp-forward-flows.h"

/* What a client's packet asks for. */
struct forward_packet {
	__u32 slot;   /* of the virtual server */
	__u32 client; /* its address */
	__u32 ports;  /* client port << 16 | port of the virtual server */
	__u32 flags;  /* TCP_*; 0 with UDP */
	__u32 opens;  /* 1: it may be the first packet of a flow */
};

/* The words 0 to 7 of its flow's record. */
static __always_inline __u64 packet_key(const struct forward_packet *packet)
{
	return packet->client | (__u64)packet->ports << 32;
}

static __always_inline struct forward_bucket *bucket_of(const struct forward_server *server,
                                                        const struct forward_packet *packet)
{
	__u32 hash = session_hash(packet->client, packet->ports & 0xffff0000, server->client_seed,
	                          server->port_seed);
	__u32 index = server->first_bucket + (hash & (server->buckets - 1));

	return bpf_map_lookup_elem(&forward_buckets, &index);
}

static __always_inline __u32 node_of_bucket(const struct forward_bucket *bucket)
{
	return bucket && node_state(bucket->node) & FORWARD_KEEPS ? bucket->node : NO_NODE;
}

/* The node of the packet's bucket. A retired virtual server takes no SYNs. */
static __always_inline __u32 bucket_node(const struct forward_server *server,
                                         const struct forward_packet *packet)
{
	struct forward_bucket *bucket = bucket_of(server, packet);
	__u32 tick = forward_tick();

	if (!bucket || (server->flags & FORWARD_CLOSED && packet->flags && packet->opens))
		return NO_NODE;
	if (bucket->seen != tick)
		bucket->seen = tick;
	return node_of_bucket(bucket);
}

/* The place of the client's sticky record, or NO_FLOW. */
static __always_inline __u32 sticky_place(const struct xdp_control *us,
                                          const struct forward_server *server,
                                          const struct forward_packet *packet)
{
	__u32 client = packet->client & server->sticky_mask;
	__u32 owner = flow_owner(packet->slot, FORWARD_STICKY);

	return search_flow(client, owner, flow_hash(server, client, 0, owner),
	                   us->forward_sets - 1);
}

/* Chooses the node of a new flow, or NO_NODE. */
static __noinline __u32 choose_node(const struct xdp_control *us, struct forward_server *server,
                                    const struct forward_packet *packet, __u32 hash)
{
	__u32 tick = forward_tick();
	__u32 owner = flow_owner(packet->slot, FORWARD_STICKY);
	struct forward_flow *sticky = NULL;

	if (server->sticky_mask) {
		sticky = flow_at(sticky_place(us, server, packet));
		if (sticky && node_state(sticky->node) & FORWARD_TAKES) {
			sticky->seen = tick;
			return sticky->node;
		}
	}

	__u32 picks = server->pick_count;
	/* A segment of a flow that is not known: all of them must choose the same node. */
	__u32 pick = packet->opens ? server->cursor++ : hash;

	if (!picks)
		return NO_NODE;
	pick %= picks;
	if (pick >= FORWARD_PICKS)
		return NO_NODE;

	__u32 node = server->picks[pick];

	if (!server->sticky_mask)
		return node;
	if (sticky) {
		sticky->node = node;
		sticky->seen = tick;
		return node;
	}

	__u32 client = packet->client & server->sticky_mask;

	add_flow(client, owner_node(owner, node), flow_hash(server, client, 0, owner),
	         us->forward_sets - 1, tick);
	return node;
}

/* A packet of a known flow: its client is remembered for longer, and does not give way first. */
static __noinline int keep_sticky(const struct xdp_control *us,
                                  const struct forward_server *server,
                                  const struct forward_packet *packet, __u32 tick)
{
	struct forward_flow *sticky = flow_at(sticky_place(us, server, packet));

	if (sticky) {
		sticky->kind |= FORWARD_SECOND << FORWARD_STATE_SHIFT;
		sticky->seen = tick;
	}
	return 0;
}

/* The state of a flow after a packet with these flags. */
static __always_inline __u8 next_state(__u8 kind, __u32 flags)
{
	kind |= FORWARD_SECOND << FORWARD_STATE_SHIFT;
	if (flags & TCP_FIN)
		kind |= FORWARD_FIN << FORWARD_STATE_SHIFT;
	if (flags & TCP_RST)
		kind |= FORWARD_RST << FORWARD_STATE_SHIFT;
	return kind;
}

/*
 * Chooses a node for a packet whose flow has none that keeps it, and notes it in the flow's record.
 * NO_NODE if there is none to choose.
 */
static __noinline __u32 open_flow(const struct xdp_control *us, struct forward_server *server,
                                  const struct forward_packet *packet, __u32 hash)
{
	if (server->flags & FORWARD_CLOSED)
		return NO_NODE;

	__u32 node = choose_node(us, server, packet, hash);

	if (node == NO_NODE)
		return NO_NODE;
	if (packet->opens) {
		count_flow(packet->slot);
		count_flow(MOST_SERVERS + node);
	} else {
		count(XDP_FORWARD_UNKNOWN);
	}

	__u32 owner = flow_owner(packet->slot, FORWARD_FLOW);
	__u64 key = packet_key(packet);
	__u32 mask = us->forward_sets - 1;
	__u32 tick = forward_tick();
	struct forward_flow *flow = flow_at(search_flow(key, owner, hash, mask));

	if (flow)
		*(volatile __u64 *)&flow->node = owner_node(owner, node) | (__u64)tick << 32;
	else if (!(packet->flags & TCP_RST))
		add_flow(key, owner_node(owner, node), hash, mask, tick);
	return node;
}

/* The node of the packet's flow. It chooses one if there is none, or if that one is gone. */
static __always_inline __u32 flow_node(const struct xdp_control *us, struct forward_server *server,
                                       const struct forward_packet *packet)
{
	__u32 owner = flow_owner(packet->slot, FORWARD_FLOW);
	__u32 hash = flow_hash(server, packet->client, packet->ports, owner);
	struct forward_flow *flow =
		find_flow(packet_key(packet), owner, hash, us->forward_sets - 1);

	if (!flow)
		return open_flow(us, server, packet, hash);

	__u32 node = flow->node;
	__u32 tick = forward_tick();
	__u8 kind = flow->kind;
	__u8 ended = kind >> FORWARD_STATE_SHIFT & (FORWARD_FIN | FORWARD_RST);
	__u8 next = next_state(kind, packet->flags);

	if ((ended && packet->flags & TCP_SYN) || !(node_state(node) & FORWARD_KEEPS))
		return open_flow(us, server, packet, hash);
	if (next != kind || flow->seen != tick) {
		if (server->sticky_mask)
			keep_sticky(us, server, packet, tick);
		if (next != kind)
			flow->kind = next;
		flow->seen = tick;
	}
	return node;
}

#endif
