// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The guard on the balancer's interface. The engine gets all frames for its virtual servers from a
 * tap (an AF_PACKET socket), which is before tc ingress. The kernel, which would answer them with
 * RST, gets none of them:
 *
 *     wire -> tap (guard_filter chooses frames for the engine) -> guard_ingress -> stack
 *
 * If nodes are on another interface, their notices arrive there. That interface has a tap
 * (guard_notices) and guard_ingress too. An engine of several threads has a tap for each of them;
 * guard_fanout decides which thread gets a frame. Behind an XDP program, the tap gets the frames
 * that the program passes, and guard_ingress sends out those with a struct redirect_request.
 *
 * Attached to clsact with direct action and priority 1. Uses nothing newer than kernel 5.10.
 */
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "alias.h"
#include "config.h"
#include "counters.h"
#include "forward-ports.h"
#include "guard-echo.h"
#include "guard-local.h"
#include "guard-maps.h"
#include "parse.h"
#include "session.h"
#include "virtual-servers.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Of numbers in a notice: looks for an IPv4 virtual server first. No IPv6 one has its number. */
#define FAMILY_UNKNOWN 1

/* Kind of a frame for this machine. */
enum frame_kind {
	NOT_OURS,
	VIRTUAL_TCP,      /* a segment for a virtual server, or one too short to show its ports */
	VIRTUAL_FRAGMENT, /* a later fragment for a virtual address: it has no ports */
	VIRTUAL_ICMP,     /* an ICMP error for a virtual address */
	VIRTUAL_ECHO,     /* an ICMP echo request to a virtual address */
	VIRTUAL_FORWARD,  /* a packet for a virtual server with mode forward */
	NOTICE,           /* IXCP for this machine */
	HANDOFF,          /* IXP */
};

/* Reads at an offset from the IPv4 header, at any hook. Returns 0, or an error. */
static __always_inline long load(struct __sk_buff *skb, __u32 offset, void *to, __u32 bytes)
{
	return bpf_skb_load_bytes_relative(skb, offset, to, bytes, BPF_HDR_START_NET);
}

/* The kind of a packet that is for no virtual server with mode handoff. */
static __always_inline enum frame_kind kind_of_other(struct __sk_buff *skb, const struct iphdr *ip)
{
	const struct forward_span *span = forward_span_of(ip->daddr, ip->protocol);
	struct ports ports;

	if (!span)
		return NOT_OURS;
	/* Without ports. It follows the first fragment, or is dropped. */
	if (ip->frag_off & bpf_htons(IPV4_OFFSET_MASK) || ip->ihl < 5 ||
	    load(skb, ip->ihl * 4, &ports, sizeof(ports)))
		return VIRTUAL_FORWARD;
	return forward_search_port(span->first, span->count, bpf_ntohs(ports.destination)) ==
	                       NO_SERVER
	               ? NOT_OURS
	               : VIRTUAL_FORWARD;
}

static __always_inline enum frame_kind kind_of_tcp(struct __sk_buff *skb, const struct iphdr *ip)
{
	struct guard_server server = { .address = ip->daddr };

	if (!bpf_map_lookup_elem(&virtual_addresses, &ip->daddr))
		return NOT_OURS;
	if (ip->frag_off & bpf_htons(IPV4_OFFSET_MASK))
		return forward_span_of(ip->daddr, IPPROTO_TCP) ? VIRTUAL_FORWARD : VIRTUAL_FRAGMENT;
	if (ip->ihl < 5 || load(skb, ip->ihl * 4 + offsetof(struct tcphdr, dest), &server.port,
	                        sizeof(server.port)))
		return VIRTUAL_TCP;
	return bpf_map_lookup_elem(&virtual_servers, &server) ? VIRTUAL_TCP
	                                                      : kind_of_other(skb, ip);
}

static __always_inline enum frame_kind kind_of_icmp(struct __sk_buff *skb, const struct iphdr *ip)
{
	__u8 type;

	if (!bpf_map_lookup_elem(&virtual_addresses, &ip->daddr) ||
	    (ip->frag_off & bpf_htons(IPV4_OFFSET_MASK)) ||
	    load(skb, ip->ihl * 4, &type, sizeof(type)))
		return NOT_OURS;
	if (type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED ||
	    type == ICMP_PARAMETER_PROBLEM)
		return VIRTUAL_ICMP;
	return type == ICMP_ECHO_REQUEST ? VIRTUAL_ECHO : NOT_OURS;
}

/* The kind of an ICMPv6 packet for a virtual address. */
static __always_inline enum frame_kind kind_of_icmp6(struct __sk_buff *skb)
{
	__u8 type;

	if (load(skb, sizeof(struct ipv6hdr), &type, sizeof(type)))
		return NOT_OURS;
	if (type >= ICMPV6_FIRST_ERROR && type <= ICMPV6_LAST_ERROR)
		return VIRTUAL_ICMP;
	return type == ICMPV6_ECHO_REQUEST ? VIRTUAL_ECHO : NOT_OURS;
}

/* True if this is the IPv6 address to which notices go. */
static __always_inline int is_own6(const struct in6_addr *address)
{
	__u32 zero = 0;
	const struct guard_own *us = bpf_map_lookup_elem(&own, &zero);
	const __be32 *word = address->in6_u.u6_addr32;

	return us && us->address6[0] == word[0] && us->address6[1] == word[1] &&
	       us->address6[2] == word[2] && us->address6[3] == word[3];
}

/* The kind of an IPv6 packet. One with an extension header is for no virtual server, but the stack
 * would find TCP behind that header. */
static __always_inline enum frame_kind kind_of_frame6(struct __sk_buff *skb)
{
	struct guard_server server = { .family = FAMILY_IPV6 };
	struct ipv6hdr ip;
	const __be32 *alias;

	if (of_another_vlan(skb->vlan_present, skb->vlan_tci) || load(skb, 0, &ip, sizeof(ip)) ||
	    ip.version != 6)
		return NOT_OURS;
	if (ip.nexthdr == BATON_IPPROTO_IXP)
		return HANDOFF;
	if (ip.nexthdr == BATON_IPPROTO_IXCP)
		return is_own6(&ip.daddr) ? NOTICE : NOT_OURS;
	alias = bpf_map_lookup_elem(&ipv6_aliases, &ip.daddr);
	if (!alias)
		return NOT_OURS;
	if (is_extension(ip.nexthdr))
		return VIRTUAL_TCP;
	if (ip.nexthdr == IPPROTO_ICMPV6)
		return kind_of_icmp6(skb);
	if (ip.nexthdr != IPPROTO_TCP)
		return NOT_OURS;
	server.address = *alias;
	if (load(skb, sizeof(ip) + offsetof(struct tcphdr, dest), &server.port,
	         sizeof(server.port)))
		return VIRTUAL_TCP;
	return bpf_map_lookup_elem(&virtual_servers, &server) ? VIRTUAL_TCP : NOT_OURS;
}

static __always_inline enum frame_kind kind_of_frame(struct __sk_buff *skb)
{
	struct iphdr ip;
	__u32 zero = 0;
	const struct guard_own *us;

	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return kind_of_frame6(skb);
	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    of_another_vlan(skb->vlan_present, skb->vlan_tci) || load(skb, 0, &ip, sizeof(ip)) ||
	    ip.version != 4)
		return NOT_OURS;
	switch (ip.protocol) {
	case IPPROTO_TCP:
		return kind_of_tcp(skb, &ip);
	case IPPROTO_UDP:
		return kind_of_other(skb, &ip);
	case IPPROTO_ICMP:
		return kind_of_icmp(skb, &ip);
	case BATON_IPPROTO_IXCP:
		us = bpf_map_lookup_elem(&own, &zero);
		return us && us->address == ip.daddr ? NOTICE : NOT_OURS;
	case BATON_IPPROTO_IXP:
		return HANDOFF;
	default:
		return NOT_OURS;
	}
}

/* The filter of the tap returns how many bytes of a frame the engine gets: all or none. */
SEC("socket")
int guard_filter(struct __sk_buff *skb)
{
	/* Not frames that leave, or that a switch flooded. */
	if (skb->pkt_type != PACKET_HOST)
		return 0;
	switch (kind_of_frame(skb)) {
	case VIRTUAL_TCP:
	case VIRTUAL_FRAGMENT:
	case VIRTUAL_ICMP:
	case VIRTUAL_FORWARD:
	case NOTICE:
		count(GUARD_SEEN);
		return skb->len;
	default:
		return 0;
	}
}

/* The filter of the tap on the nodes' own interface: the engine gets notices only. */
SEC("socket")
int guard_notices(struct __sk_buff *skb)
{
	if (skb->pkt_type != PACKET_HOST || kind_of_frame(skb) != NOTICE)
		return 0;
	count(GUARD_SEEN);
	return skb->len;
}

/*
 * The thread that owns the session of this client at this virtual server. The flows of mode forward
 * belong to no thread: the hash only distributes them.
 */
static __always_inline __u32 worker_of(__u32 transport, __be32 client, __be16 client_port,
                                       __be32 address, __be16 port, __u16 family)
{
	struct guard_server server = {
		.address = address,
		.port = port,
		.family = family == FAMILY_IPV6 ? FAMILY_IPV6 : 0,
	};
	const __u32 *index =
		transport == IPPROTO_TCP ? bpf_map_lookup_elem(&virtual_servers, &server) : NULL;
	__u32 zero = 0;

	/* A notice does not tell the family of its numbers. */
	if (!index && family == FAMILY_UNKNOWN) {
		server.family = FAMILY_IPV6;
		index = bpf_map_lookup_elem(&virtual_servers, &server);
	}

	const struct guard_sharing *us = bpf_map_lookup_elem(&sharing, &zero);
	__u32 slot = index ? *index : find_forward(address, transport, bpf_ntohs(port));

	if (slot == NO_SERVER || !us)
		return 0;

	__u32 port_server = (__u32)bpf_ntohs(client_port) << 16 | slot;
	__u32 hash = session_hash(bpf_ntohl(client), port_server, us->client_seed, us->port_seed);

	return session_worker(hash, us->workers);
}

/* The same for an IPv6 packet between these addresses, of which `client` may be any. */
static __always_inline __u32 worker_of6(const struct in6_addr *client, __be16 client_port,
                                        const struct in6_addr *address, __be16 port)
{
	__u32 zero = 0;
	const struct guard_sharing *us = bpf_map_lookup_elem(&sharing, &zero);
	const __be32 *alias = bpf_map_lookup_elem(&ipv6_aliases, address);

	return us && alias ? worker_of(IPPROTO_TCP, alias_of(client, us->alias), client_port,
	                               *alias, port, FAMILY_IPV6)
	                   : 0;
}

/* The thread for a notice, whose header begins at `offset`. */
static __always_inline __u32 worker_of_notice(struct __sk_buff *skb, __u32 offset)
{
	struct ixcp_hdr ixcp;

	if (load(skb, offset, &ixcp, sizeof(ixcp)) || ixcp.type == IXCP_REPORT)
		return 0;
	return worker_of(IPPROTO_TCP, ixcp.client, ixcp.client_port, ixcp.virtual_addr,
	                 ixcp.virtual_port, FAMILY_UNKNOWN);
}

static __always_inline __u32 fanout6(struct __sk_buff *skb)
{
	const __u32 inner = sizeof(struct ipv6hdr) + ICMP_HEADER_BYTES;
	struct ipv6hdr ip;
	struct ports ports;

	if (load(skb, 0, &ip, sizeof(ip)))
		return 0;
	if (ip.nexthdr == BATON_IPPROTO_IXCP)
		return worker_of_notice(skb, sizeof(ip));
	if (ip.nexthdr == IPPROTO_TCP && !load(skb, sizeof(ip), &ports, sizeof(ports)))
		return worker_of6(&ip.saddr, ports.source, &ip.daddr, ports.destination);
	/* The packet inside the error went from the virtual server to the client. */
	if (ip.nexthdr == IPPROTO_ICMPV6 && !load(skb, inner, &ip, sizeof(ip)) &&
	    !load(skb, inner + sizeof(ip), &ports, sizeof(ports)))
		return worker_of6(&ip.daddr, ports.destination, &ip.saddr, ports.source);
	return 0;
}

/*
 * Chooses the tap for a frame: it goes to the thread that owns the session of a segment, a notice
 * or an ICMP error. A frame of no session goes to the first thread.
 */
SEC("socket")
int guard_fanout(struct __sk_buff *skb)
{
	const __u32 inner = sizeof(struct iphdr) + ICMP_HEADER_BYTES;
	struct iphdr ip;
	struct ports ports;

	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return fanout6(skb);
	if (skb->protocol != bpf_htons(ETH_P_IP) || load(skb, 0, &ip, sizeof(ip)) || ip.ihl != 5 ||
	    ip.frag_off & bpf_htons(IPV4_OFFSET_MASK))
		return 0;
	switch (ip.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		if (load(skb, sizeof(ip), &ports, sizeof(ports)))
			return 0;
		return worker_of(ip.protocol, ip.saddr, ports.source, ip.daddr, ports.destination,
		                 0);
	case IPPROTO_ICMP:
		/* The packet inside the error went from the virtual server to the client. */
		if (load(skb, inner, &ip, sizeof(ip)) || ip.ihl != 5 ||
		    load(skb, inner + sizeof(ip), &ports, sizeof(ports)))
			return 0;
		return worker_of(ip.protocol, ip.daddr, ports.destination, ip.saddr, ports.source,
		                 0);
	case BATON_IPPROTO_IXCP:
		return worker_of_notice(skb, sizeof(ip));
	default:
		return 0;
	}
}

/*
 * Turns frames round that the engine sends to its own machine. Only attached if this machine is a
 * node, too.
 */
SEC("tc")
int guard_egress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	const struct guard_local *us = bpf_map_lookup_elem(&local, &zero);
	__u8 to[6];

	if (!us || !us->on || bpf_skb_load_bytes(skb, 0, to, sizeof(to)))
		return TC_ACT_UNSPEC;
	for (int i = 0; i < 6; i++)
		if (to[i] != us->mac[i])
			return TC_ACT_UNSPEC;
	skb->mark = BATON_MARK_LOCAL;
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/* The index of the interface that the XDP program wants the frame sent from; 0: none. */
static __always_inline __u32 requested_interface(struct __sk_buff *skb)
{
	struct redirect_request *request = (void *)(long)skb->data_meta;

	if ((void *)(request + 1) > (void *)(long)skb->data || request->magic != REDIRECT_MAGIC)
		return 0;
	/* The metadata stays with the frame, and the next host may run a guard, too. */
	request->magic = 0;
	return request->interface;
}

SEC("tc")
int guard_ingress(struct __sk_buff *skb)
{
	if (is_for_shim(skb))
		return give_to_stack(skb);

	__u32 interface = requested_interface(skb);

	if (interface == OWN_STACK)
		return is_node() ? give_to_stack(skb) : TC_ACT_SHOT;
	if (interface) {
		count(GUARD_SENT_ON);
		return bpf_redirect(interface, 0);
	}
	switch (kind_of_frame(skb)) {
	case VIRTUAL_TCP:
		count(GUARD_KEPT_VIRTUAL);
		return TC_ACT_SHOT;
	case VIRTUAL_FORWARD:
		count(GUARD_KEPT_FORWARD);
		return TC_ACT_SHOT;
	case NOTICE:
		count(GUARD_KEPT_NOTICE);
		return TC_ACT_SHOT;
	case VIRTUAL_ECHO:
		if (may_answer_echo())
			return TC_ACT_UNSPEC;
		count(GUARD_DROP_ECHO);
		return TC_ACT_SHOT;
	case HANDOFF:
		count(GUARD_DROP_IXP);
		return TC_ACT_SHOT;
	default:
		return TC_ACT_UNSPEC;
	}
}
