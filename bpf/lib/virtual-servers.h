/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The virtual servers of a balancer. Guard and XDP program each have these maps of their own; user
 * space fills both.
 */
#ifndef BATON_VIRTUAL_SERVERS_H
#define BATON_VIRTUAL_SERVERS_H

#include <linux/in6.h>

#include "config.h"

/*
 * Is this address and port a virtual server? The value is its slot, which is also in session keys.
 * In the XDP program it has flags (SERVER_* of session.h) too.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct guard_server);
	__type(value, __u32);
} virtual_servers SEC(".maps");

/* Which alias has this IPv6 virtual address? In network byte order. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct in6_addr);
	__type(value, __be32);
} ipv6_aliases SEC(".maps");

/* Does a virtual server have this address? The value has no meaning. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, __u32);
} virtual_addresses SEC(".maps");

#endif
