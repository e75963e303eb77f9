/**
 * Shared by the tests of AF_XDP: the farm of ring-farm.ts with an XDP program and sockets on e1.
 */

import { openXdpDatapath, type XdpDatapath, xdpPoolOptions } from '../../src/datapath/xdp.js';
import {
  type BpfObject,
  native,
  type XdpMode,
  type XdpPool,
  type XdpPoolOptions,
} from '../../src/host/native.js';
import { compileAndLoad, MTU } from './ring-farm.js';

export const WORKERS = 8;

/**
 * `steer` gives IPv4 to the sockets: UDP datagrams of odd length to worker 1, if there is one, and
 * all others to worker 0. `turn` sends IPv4 back, to the MAC address in `target`.
 */
const PROGRAM = `
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
struct { __uint(type, BPF_MAP_TYPE_XSKMAP); __uint(max_entries, 64 * ${WORKERS}); __type(key, __u32); __type(value, __u32); } xsks SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32[2]); } target SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } seen SEC(".maps");
static __always_inline struct iphdr *ipv4(struct xdp_md *context) {
  struct ethhdr *ethernet = (void *)(long)context->data;
  struct iphdr *ip = (void *)(ethernet + 1);
  if ((void *)(ip + 1) > (void *)(long)context->data_end) return 0;
  return ethernet->h_proto == bpf_htons(ETH_P_IP) ? ip : 0;
}
SEC("xdp") int steer(struct xdp_md *context) {
  struct iphdr *ip = ipv4(context);
  if (!ip) return XDP_PASS;
  __u32 worker = ip->protocol == 17 && (bpf_ntohs(ip->tot_len) & 1);
  return bpf_redirect_map(&xsks, context->rx_queue_index * ${WORKERS} + worker, XDP_DROP);
}
struct { __uint(type, BPF_MAP_TYPE_DEVMAP_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); } ports SEC(".maps");
static __always_inline int turned(struct xdp_md *context) {
  __u32 first = 0, second = 1;
  struct iphdr *ip = ipv4(context);
  __u32 *mac = bpf_map_lookup_elem(&target, &first);
  __u64 *frames = bpf_map_lookup_elem(&seen, &first), *longest = bpf_map_lookup_elem(&seen, &second);
  if (!ip || !mac || !frames || !longest) return XDP_PASS;
  __u64 length = context->data_end - context->data;
  ++*frames;
  if (length > *longest) *longest = length;
  struct ethhdr *ethernet = (void *)(long)context->data;
  if ((void *)(ethernet + 1) > (void *)(long)context->data_end) return XDP_PASS;
  __builtin_memcpy(ethernet->h_source, ethernet->h_dest, 6);
  __builtin_memcpy(ethernet->h_dest, mac, 6);
  return XDP_TX;
}
SEC("xdp") int turn(struct xdp_md *context) { return turned(context); }
SEC("xdp") int turn_redirected(struct xdp_md *context) {
  int verdict = turned(context);
  return verdict == XDP_TX ? bpf_redirect_map(&ports, context->ingress_ifindex, XDP_DROP) : verdict;
}
SEC("xdp") int pass(struct xdp_md *context) { return XDP_PASS; }
char licence[] SEC("license") = "GPL";
`;

export function loadPrograms(): BpfObject {
  return compileAndLoad(PROGRAM);
}

export function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** Sockets on e1, with the program that gives them frames. */
export class XdpSetup {
  readonly pool: XdpPool;
  private readonly datapaths: XdpDatapath[] = [];

  constructor(
    private readonly programs: BpfObject,
    private readonly index: number,
    private readonly mode: XdpMode,
    workers = 1,
    changes: Partial<XdpPoolOptions> = {},
    name = 'e1',
  ) {
    const options = { ...xdpPoolOptions(native(), { name, index, mtu: MTU }, workers), ...changes };
    this.pool = native().createXdpPool(options);
    for (const [queue, fds] of this.pool.socketFds.entries()) {
      for (const [worker, fd] of fds.entries()) {
        programs.mapUpdate('xsks', word(queue * WORKERS + worker), word(fd));
      }
    }
    native().attachXdp(index, programs.programFd('steer'), mode);
  }

  open(worker = 0): XdpDatapath {
    const datapath = openXdpDatapath(native(), this.pool.id, worker);
    this.datapaths.push(datapath);
    return datapath;
  }

  close(): void {
    native().detachXdp(this.index, this.mode, this.programs.programFd('steer'));
    for (const datapath of this.datapaths) datapath.close();
    this.pool.close();
  }
}
