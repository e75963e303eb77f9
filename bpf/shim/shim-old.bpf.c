// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The shim for kernels from 5.10 on: as shim-replay, and it cannot follow answers. */
#define BATON_WITHOUT_ADOPTION
#define BATON_WITHOUT_LOOP
#include "shim.bpf.c"
