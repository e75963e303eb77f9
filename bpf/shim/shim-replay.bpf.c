// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The shim for kernels from 5.17 on that cannot adopt: sessions come by replay alone. */
#define BATON_WITHOUT_ADOPTION
#include "shim.bpf.c"
