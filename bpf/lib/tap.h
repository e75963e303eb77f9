/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records of the frames that `baton capture` reads. The XDP program writes them into perf buffers;
 * the engine uses the same form. Numbers are in host byte order unless their line says otherwise.
 * test/kernel compares src/wire/tap-record.ts with this file.
 */
#ifndef BATON_TAP_H
#define BATON_TAP_H

#include "ixp.h"

/* tap_record.kind; the engine has more kinds. */
#define TAP_RECEIVED 0 /* arrived on the clients' interface */
#define TAP_KERNEL 1   /* sent by the XDP program */

/* Header of a record. The first `captured` bytes of the frame follow. */
struct tap_record {
	__u64 time;     /*  0 ns, CLOCK_MONOTONIC */
	__u32 length;   /*  8 of the whole frame */
	__u32 captured; /* 12 */
	__u8 kind;      /* 16 TAP_* */
	__u8 pad[7];    /* 17 always 0 */
};

/* The one element of map `tap_config`: which frames to record, and how many bytes of each. */
struct tap_config {
	__be32 client;      /*  0 only frames of this client; 0: of all clients */
	__be16 client_port; /*  4 only of this port of the client; 0: of all ports */
	__u16 pad;          /*  6 always 0 */
	__u32 snap_length;  /*  8 most bytes of a frame */
};

/* A record of a perf buffer is at most 64 KiB long, headers included. */
#define TAP_MOST_BYTES 61440

/*
 * xdp_control.tap: the end of the lease of a capture. It holds the lowest 8 bits of CLOCK_MONOTONIC
 * in units of 256 ms; 0 means that nothing is captured. The capture renews the lease. When the
 * capture is gone, the lease runs out and the program stops recording.
 */
#define TAP_UNIT_SHIFT 8
#define TAP_LONGEST 16

BATON_ASSERT(sizeof(struct tap_record) == 24, "tap_record");
BATON_ASSERT(sizeof(struct tap_config) == 12, "tap_config");

#endif
