/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What `baton capture` is told of frames: by the XDP program in perf buffers, by the engine in the
 * same form. Host byte order unless the line says otherwise; src/wire/tap-record.ts is compared
 * with this file by test/kernel.
 */
#ifndef BATON_TAP_H
#define BATON_TAP_H

#include "ixp.h"

/* tap_record.kind; the engine has more of them. */
#define TAP_RECEIVED 0 /* came in by the interface of the clients */
#define TAP_KERNEL 1   /* sent by the XDP program */

/* A frame. Its first `captured` bytes follow. */
struct tap_record {
	__u64 time;     /*  0 ns, CLOCK_MONOTONIC */
	__u32 length;   /*  8 of the whole frame */
	__u32 captured; /* 12 */
	__u8 kind;      /* 16 TAP_* */
	__u8 pad[7];    /* 17 always 0 */
};

/* The one element of map `tap_config`: which frames, and how much of each. */
struct tap_config {
	__be32 client;      /*  0 only frames of this client; 0: of all */
	__be16 client_port; /*  4 only of this port of it; 0: of all */
	__u16 pad;          /*  6 always 0 */
	__u32 snap_length;  /*  8 most bytes of a frame */
};

/* A perf buffer's record is no longer than 64 KiB, this and its headers included. */
#define TAP_MOST_BYTES 61440

/*
 * xdp_control.tap: until when frames are shown, in units of 256 ms of CLOCK_MONOTONIC, of which the
 * lowest 8 bits; 0: no frame is. Who captures sets it again and again: when it is gone, the program
 * soon notices.
 */
#define TAP_UNIT_SHIFT 8
#define TAP_LONGEST 16

BATON_ASSERT(sizeof(struct tap_record) == 24, "tap_record");
BATON_ASSERT(sizeof(struct tap_config) == 12, "tap_config");

#endif
