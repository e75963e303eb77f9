/** Writes docs/benchmarks.md: the text is here, the figures come from the results. */
import { markdownTable, whole, wrapMarkdown } from '../report.js';
import { FLOOD_SESSIONS } from './flood.js';
import { type Goal, goalsOf, verdict } from './goals.js';
import type { Results } from './results.js';
import {
  caseTable,
  engineTable,
  firstByteTable,
  haproxyMillion,
  memoryTable,
  roundsOf,
  smallPacketTable,
  type Table,
  workersTable,
} from './tables.js';

const table = ({ headings, rows, text }: Table): string => markdownTable(headings, rows, text);

export function goalTable(goals: readonly Goal[]): Table {
  return {
    headings: ['what', 'goal', 'value', '', 'not a goal: the share of the tuned one'],
    rows: goals.map((goal) => [
      goal.what,
      goal.goal,
      goal.shown,
      verdict(goal),
      goal.ofTuned ?? '',
    ]),
    text: ['goal', 'value', ''],
  };
}

/** Returns the whole document. */
export function documentOf(results: Results): string {
  return `${[
    intro(results),
    goals(results),
    farm(results),
    firstByte(results),
    smallPackets(results),
    memory(results),
    engine(results),
    again(),
  ]
    .map(wrapMarkdown)
    .join('\n\n')}\n`;
}

const listed = (values: Record<string, string>): string =>
  Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');

function intro(results: Results): string {
  const { machine, versions, startedAt, seconds, settings } = results;
  return `# Benchmarks

\`sudo make bench\` writes this page (bench/farm/document.ts). All samples are in
[bench/results/latest.json](../bench/results/latest.json). Run nothing else on the machine during a
run. Machines differ: ratios say more than figures. Kept-alive requests that move, answers of the
balancer itself and mode forward are measured apart: [more benchmarks](benchmarks-more.md).

- **Run**: ${startedAt.slice(0, 10)}, ${Math.round(seconds / 60)} minutes; ${settings.rounds} rounds of ${settings.seconds} s each.
- **Machine**: ${listed(machine)}.
- **Versions**: ${listed(versions)}.`;
}

function goals(results: Results): string {
  const left = results.contenders.filter((contender) => contender.left !== undefined);
  const absent = left.map(({ name, left: why }) => `${name} could not be started: \`${why}\`.`);
  return [
    '## Goals\n',
    table(goalTable(goalsOf(results))),
    `
The goals are for Baton with \`datapath: xdp\`, unless a line says otherwise. HAProxy and nginx in
the goals are the stock ones, in a plain configuration. The last column compares with the proxies
that are tuned for these answers ([how](#a-farm)); no goal was set for it.`,
    ...absent,
  ].join('\n');
}

function farm(results: Results): string {
  const how = results.contenders
    .filter(({ left }) => left === undefined)
    .map(({ name, how }) => `- **${name}**: ${how}.`);
  const cases = results.cases.map(
    (which) =>
      `### ${which.case.name}\n\n${which.case.connections} connections, ${roundsOf(which)}.\n\n${table(caseTable(results, which))}`,
  );
  return `## A farm

How to read the tables:

- **CPU** is the time of the whole machine per request: client, node and their kernels included. It
is the elapsed time of all CPUs less idle and stolen time in /proc/stat. (The user, system and
softirq columns there are sampled at the kernel's tick, and part of the work runs in step with it.)
- The **tax** is the CPU time above direct, round by round; the tables show its median.
- **Bytes in between** are the bytes that the machine between client and node received.
- p50 and p99 are those of wrk, under this load.
- The \`packet\` datapath holds each client packet for up to 1 ms ([why](decisions.md#datapaths)).
Latency limits its requests per second, not CPU. Where a contender answers fewer requests in the
same time, CPU per request says more than the rate.
- HAProxy and nginx read every byte of an answer and write it again. With Baton and the bare XDP
program the node answers the client itself.

Client, balancers, proxies and two nodes with nginx are network namespaces on one machine, joined by
a bridge. All contenders run next to each other for the whole time; idle they take
${(results.idleShare * 100).toFixed(1)} % of the CPUs together. Before its first round each
contender is asked for 3 s that do not count, because part of the code is compiled while it runs. In
each round wrk asks each contender once, and each round begins with another one. A round in which
the hypervisor took more than 10 % of the CPUs' time for other machines is discarded and repeated.

The client does its checksums and its segmentation in software for every contender, as if it were on
a wire. It may use the ports from 1024 on, and reuse those in TIME-WAIT
(\`net.ipv4.tcp_tw_reuse=1\`). Otherwise a client that opens thousands of connections a second from
one address runs out of ports, and before that the search for a free port takes longer and longer.

${how.join('\n')}

Nothing of Baton runs on the node that is asked directly, by HAProxy, by nginx and by the bare XDP
program. So the cost of the agent and its shim on the other node is part of Baton's cost.

${cases.join('\n\n')}`;
}

function firstByte(results: Results): string {
  return `## Time to the first byte

A program with no other work connects, asks for 1 KB and waits for the first byte. Then it pauses
for a millisecond and continues with the next contender. There are no other requests at that time.

${table(firstByteTable(results))}`;
}

/** Returns how often each forwarder was flooded, and for how long. */
function floodsOf({ smallPackets: { floods } }: Results): string {
  const { forwarder, sessions } = floods[0] ?? {};
  const same = floods.filter((one) => one.forwarder === forwarder && one.sessions === sessions);
  const seconds = same[0]?.seconds ?? 0;
  return `${whole(same.length)} floods of ${seconds.toFixed(1)} s`;
}

function smallPackets(results: Results): string {
  const most = results.memory.baton[0]?.sessions ?? 0;
  return `## Small packets

${table(smallPacketTable(results))}

- **Set-up**: a generator and a forwarder are two network namespaces on one wire (a pair of veth),
without a switch. The generator sends bare ACKs of 60 bytes, of open sessions in turn, with
BPF_PROG_TEST_RUN and live frames on one CPU. A kernel thread on another CPU polls the forwarder's
receive queue. Frames that come back are counted and dropped at the generator's end of the wire, on
the forwarder's CPU: that is part of every row.
- **Waits per batch**: about 1 means that the forwarder was the limit, and near 0 that the generator
was. An XDP forwarder never has more frames in flight than its receive ring holds: every 32 frames
the generator checks, and waits until there is room. It sends in batches of 64. (If it sent more
than fits, the kernel would take such frames back under the lock under which it takes frames that
have come round. Both would wait for each other, and a slower forwarder would lose twice.)
\`packet\` collects frames before it processes them, so it is offered as many as can be sent.
- **Rows**: each row is the median of ${floodsOf(results)}, in turns, because the speed of these
CPUs differs by up to a third from second to second. The bare programs look up no session, so each
has one row. Both balancers with \`xdp\` have room for ${whole(most)} sessions. One holds that
number, the other ${whole(FLOOD_SESSIONS)}; the packets belong to some or all of these.
- **Redirection**: Baton redirects where XDP_TX may get stuck, as on a veth whose other end has no
XDP program. One bare program redirects too. The goal is judged against the other one, and with
${whole(FLOOD_SESSIONS)} sessions.
- **ns in the program** is the kernel's own measurement of the XDP program
(\`kernel.bpf_stats_enabled\`) under a flood of its own. It includes the two clock readings of that
measurement.`;
}

function memory(results: Results): string {
  const { haproxy } = results.memory;
  return `## Memory

${table(memoryTable(results))}

- **Baton**: a crowd of clients on the same two namespaces opens sessions at a running
\`baton balancer\`. Each session has a handshake, a request and a node that confirms. The figures
count all resident pages of the process, all rings and frames that it shares with the kernel, and
its BPF maps as the kernel accounts them.
- **HAProxy** is the tuned one for short answers. Its connections have asked once and are kept
alive. They share the connections to the node; the stock one also holds one to the node for each of
them, for a while. Only its process is counted. For each connection the kernel keeps a socket in
addition, which Baton does not have.
- HAProxy held no more connections here because ${haproxy.limit}. Extrapolated, not measured: its
process would take ${haproxyMillion(results)} MB for a million connections.`;
}

function engine(results: Results): string {
  return `## The engine over a capture in memory

\`bench/replay/engine.bench.ts\`, one thread. The client's frames of a recorded connection
(\`get.pcap\`) are multiplied to 20,000 clients with correct checksums, and fed to the engine from
memory. Sent frames are counted and not sent. A handoff is SYN, ACK and GET in, SYN/ACK and IXP out,
with 1,003 resources on three nodes; "to confirmed" adds the IXCP notice with its tag. Pass-through
is bare ACKs of those 20,000 sessions in turn. Heap growth is heap, external memory and array
buffers together, after a forced collection before and after.

${table(engineTable(results))}

The next table compares one worker, an engine in a thread of its own, with several workers that
share the same work by flow, each with its own engine and memory. They run in turns.

${table(workersTable(results))}`;
}

function again(): string {
  return `## Run it again

\`\`\`sh
sudo make bench                           # everything above; writes this page and latest.json
sudo npm run bench:farm                   # the same
sudo BENCH_ROUNDS=1 BENCH_SECONDS=1 make bench ARGS=--no-write   # short; writes nothing
make bench ARGS=--document                # writes this page again from latest.json
make bench-replay                         # only the engine
\`\`\`

BENCH_ROUNDS, BENCH_SECONDS, BENCH_SESSIONS (for the memory) and BENCH_FIRST_BYTES (samples) change
the length.`;
}
