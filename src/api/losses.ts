/**
 * The ways in which this machine can lose a frame between the interface and the engine, in words.
 * A client only sees that something is slow. So each loss is a warning in the balancer's log and a
 * line of `baton stats`, with the remedy.
 */

export interface LossKind {
  /** Its name in `baton stats`. */
  counter: string;
  /** What happened; follows a number. */
  what: string;
  /** What the operator can do. */
  remedy: string;
}

const FASTER =
  'the engine did not get the CPU in time, or is too slow: give it a CPU of its own, or set more `workers` (docs/tuning.md)';

/** In the order in which `baton stats` shows them. */
export const LOSS_KINDS: readonly LossKind[] = [
  { counter: 'ring_lost', what: 'frames lost before the engine read them', remedy: FASTER },
  {
    counter: 'ring_starved',
    what: 'times without free memory to receive a frame',
    remedy: FASTER,
  },
  {
    counter: 'ring_send_failed',
    what: 'frames that the interface did not take',
    remedy: '`ip -s link` shows whether it is up and what it drops',
  },
  {
    counter: 'ring_drop_full',
    what: 'frames not sent because the transmit ring was full',
    remedy:
      'frames come faster than the interface sends: `ethtool -S` shows what it drops, `ethtool -l` how many queues it has',
  },
  {
    counter: 'ring_drop_too_long',
    what: 'frames not sent because they are longer than the MTU',
    remedy: 'give the interfaces of clients, balancer and nodes the same MTU',
  },
  {
    counter: 'ring_drop_truncated',
    what: 'frames not forwarded because they are larger than 64 KiB',
    remedy:
      'switch BIG TCP off: `ip link set dev INTERFACE gso_ipv4_max_size 65536 gro_ipv4_max_size 65536`',
  },
  {
    counter: 'xdp_engine_absent',
    what: 'frames for the engine from a receive queue without a socket',
    remedy:
      'the interface has more receive queues than at the start (`ethtool -l`): start the balancer again with `--replace`',
  },
  {
    counter: 'xdp_drop_no_port',
    what: 'segments for a node behind an interface that the XDP program does not know',
    remedy: '`nodeInterface` was replaced: start the balancer again with `--replace`',
  },
];
