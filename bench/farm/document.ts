/** docs/benchmarks.md: the words here, the figures from the results. */
import { markdownTable, whole } from '../report.js';
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
    headings: ['what', 'goal', 'value', '', 'not a goal: the same share of the tuned one'],
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

/** The whole document. */
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
  ].join('\n\n')}\n`;
}

const listed = (values: Record<string, string>): string =>
  Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');

function intro(results: Results): string {
  const { machine, versions, startedAt, seconds, settings } = results;
  return `# Benchmarks

This page is written by \`sudo npm run bench:farm\` (bench/farm/document.ts); every sample is in
[bench/results/latest.json](../bench/results/latest.json). Nothing else should run on the machine meanwhile. Machines
differ; ratios tell more than figures.

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
Unless a line says otherwise, what is judged is Baton with \`datapath: xdp\`. HAProxy and nginx are the stock ones there: a plain
configuration, as one gets them. The last column compares with those that are tuned for these answers ([how](#a-farm)); no goal
was set for that.`,
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

Client, balancers, proxies and two nodes with nginx are network namespaces on one machine, joined by a bridge. All
contenders run side by side for the whole time; idle they take ${(results.idleShare * 100).toFixed(1)} % of the CPUs
together. Before its first round each is asked for 3 s that do not count, since part of what runs here is compiled while it
runs. In each round wrk asks each of them once, and each round begins with another one. The client does its checksums and its
segmentation in software, as if it were on a wire, whoever it asks. It has the ports from 1024 on, and may use those in
TIME-WAIT again (\`net.ipv4.tcp_tw_reuse=1\`): a client that asks thousands of times a second from one address runs out of ports
otherwise, and until then the search for a free one takes ever longer.

${how.join('\n')}

The node that is asked directly, and by HAProxy, nginx and the bare XDP program, has nothing of Baton on it. So what the agent and
its shim cost on the node is part of what Baton costs.

**CPU** is the time of the whole machine per request, client, node and their kernels included: the time that passed on all
CPUs less idle and stolen time of /proc/stat. (Its user, system and softirq columns are sampled at the
kernel's tick, with which some of the work runs in step.) The **tax** is the CPU time above direct, round by round; its median
stands here. A round in which the hypervisor took more than 10 % of the CPUs' time for others is thrown away and repeated.
"Bytes in between" are those that the machine between client and node received. p50 and p99 are wrk's, under that load.

${cases.join('\n\n')}

How to read it: the datapath \`packet\` lets each client packet wait up to 1 ms ([why](decisions.md)), so its requests per second are
bound by latency and not by CPU. Where a contender answers fewer requests in the same time, CPU per request tells more
than the rate. HAProxy and nginx read every byte of an answer and write it again; by way of Baton and of the bare XDP program the
node answers the client itself.`;
}

function firstByte(results: Results): string {
  return `## Time to the first byte

A program that does nothing else connects, asks for 1 KB and waits for the first byte; then it pauses for a millisecond and goes on
to the next contender. Nothing else is asked for at that time.

${table(firstByteTable(results))}`;
}

/** How often each forwarder was flooded. */
function floodsOf({ smallPackets: { floods } }: Results): string {
  const { forwarder, sessions } = floods[0] ?? {};
  const same = floods.filter((one) => one.forwarder === forwarder && one.sessions === sessions);
  const seconds = same[0]?.seconds ?? 0;
  return `${whole(same.length)} floods of ${seconds.toFixed(1)} s`;
}

function smallPackets(results: Results): string {
  const most = results.memory.baton[0]?.sessions ?? 0;
  return `## Small packets

A generator and a forwarder are two network namespaces on one wire (a pair of veth), without a switch. The generator
sends bare ACKs of 60 bytes, of open sessions in turn, with BPF_PROG_TEST_RUN and live frames on one CPU. The forwarder's receive
queue is polled by a kernel thread on another. What comes back is counted and dropped at the generator's end of the wire, on the
forwarder's CPU: that is part of every row. An XDP forwarder never has more frames under way than its receive ring holds: every 32 frames the
generator looks, and waits until there is room. It sends in batches of 64, so "waits per batch" of about 1 says that the forwarder was the limit, and
near 0 that the generator was. (If it sent what does not fit, the kernel would have to take such frames back under the lock under which it takes those that
have come round, and both would wait for each other; a slower forwarder would lose twice.) \`packet\` collects frames before it looks at
them, so it is offered as many as can be sent. Each row is the median of ${floodsOf(results)}, in turns: seconds of these CPUs
differ by up to a third, whoever forwards.

${table(smallPacketTable(results))}

Baton sends by redirection where XDP_TX may get stuck, as it does on a veth whose other end has no XDP program; "the same by redirection"
is a bare program that does so as well. The goal is judged by the other one, and with ${whole(FLOOD_SESSIONS)} sessions. The bare
programs look no session up, so there is one row of each. Both balancers with \`xdp\` have room for ${whole(most)} sessions; one holds
so many, the other ${whole(FLOOD_SESSIONS)}, to some or all of which the packets belong.

"ns in the program" is what the kernel itself counts of the XDP program (\`kernel.bpf_stats_enabled\`) under a flood of its own: it includes the
two clock readings of that count.`;
}

function memory(results: Results): string {
  const { haproxy } = results.memory;
  return `## Memory

A crowd of clients on the same two namespaces opens sessions at a running \`baton balancer\`, each with a handshake, a request and a
node that confirms. Counted are all resident pages of the process, all of the rings and frames that it shares with the kernel, and its BPF
maps as the kernel accounts them. HAProxy is the tuned one, for short answers. Its connections have asked once and are kept alive;
they share those to the node, where the stock one holds one for each besides for a while. Only its process is counted: of
each connection the kernel keeps a socket besides, which Baton does not have.

${table(memoryTable(results))}

HAProxy held no more here because: ${haproxy.limit}. Extrapolated, and not measured: its process would take
${haproxyMillion(results)} MB for a million of them.`;
}

function engine(results: Results): string {
  return `## The engine over a capture in memory

\`bench/replay/engine.bench.ts\`, one thread. The client's frames of a recorded connection (\`get.pcap\`) are multiplied to 20,000
clients, checksums put right, and fed to the engine from memory; what it sends is counted, not sent. A handoff is SYN, ACK
and GET in, SYN/ACK and IXP out, with 1,003 resources on three nodes; "to confirmed" adds the IXCP notice with its tag. Pass-through is
bare ACKs of those 20,000 sessions in turn. Heap growth is heap, external memory and array buffers together,
after a forced collection before and after.

${table(engineTable(results))}

The same work done in turns by one worker, which is an engine in a thread of its own, and by several that share it by flow, each
with its own engine and memory.

${table(workersTable(results))}`;
}

function again(): string {
  return `## To run it again

\`\`\`sh
sudo npm run bench:farm                   # everything above; writes this page and latest.json
sudo make bench                           # the same
sudo BENCH_ROUNDS=1 BENCH_SECONDS=1 make bench ARGS=--no-write   # short, and writes nothing
make bench ARGS=--document                # this page anew from latest.json
make bench-replay                         # the engine alone
\`\`\`

BENCH_ROUNDS, BENCH_SECONDS, BENCH_SESSIONS (of the memory) and BENCH_FIRST_BYTES (samples) change the length.`;
}
