/**
 * Several packet rings on one interface: which ring gets a frame (guard_fanout, with
 * BPF_PROG_TEST_RUN), and that the frame arrives there on a real interface, even after the
 * interface was down.
 */
import { join } from 'node:path';
import t from 'tap';
import { addressNumber, build, type PacketSpec } from '../../lab/packet.js';
import type { PacketDatapath } from '../../src/datapath/packet.js';
import { sessionHash, sessionWorker } from '../../src/engine/table/session-record.js';
import { hostU32 } from '../../src/host/bpf-object.js';
import { native } from '../../src/host/native.js';
import { aliasKey } from '../../src/wire/alias.js';
import { insideNamespace, outputOf, run, until } from './namespace.js';
import { CLIENT_MAC, compileAndLoad, HERE_MAC, now, RingFarm, VIRTUAL } from './ring-farm.js';
import { addressBytes, join8, KEY, notice, portBytes, project } from './shim-fixture.js';

const CLIENT = '10.77.0.2';
const OTHER = '10.77.0.101';
const SEEDS = { client: 0x0123_4567, port: 0x89ab_cdef };
const WORKERS = 3;
const FIRST_PORT = 20_000;
const PORTS = 64;
/** Index of virtual server VIRTUAL:80. Index 0 is OTHER:80. */
const SERVER = 5;
const IXCP_REPORT = 5;

function load(): ReturnType<ReturnType<typeof native>['loadBpf']> {
  const guard = native().loadBpf(join(project, 'build', 'bpf', 'guard.bpf.o'));
  for (const [address, index] of [[OTHER, 0] as const, [VIRTUAL, SERVER] as const]) {
    guard.mapUpdate('virtual_addresses', addressBytes(address), hostU32(1));
    guard.mapUpdate(
      'virtual_servers',
      join8(addressBytes(address), portBytes(80), Uint8Array.of(0, 0)),
      hostU32(index),
    );
  }
  share(guard, WORKERS);
  return guard;
}

function share(guard: ReturnType<typeof load>, workers: number): void {
  guard.mapUpdate(
    'sharing',
    hostU32(0),
    join8(...[SEEDS.client, SEEDS.port, workers, ...aliasKey(KEY)].map(hostU32)),
  );
}

function ownerOf(clientPort: number, workers = WORKERS, server = SERVER, client = CLIENT): number {
  const key = ((clientPort << 16) | server) >>> 0;
  return sessionWorker(sessionHash(addressNumber(client), key, SEEDS.client, SEEDS.port), workers);
}

const segment = (sourcePort: number, more: PacketSpec = {}): PacketSpec => ({
  ethernet: { source: CLIENT_MAC, destination: HERE_MAC },
  ip: { source: CLIENT, destination: VIRTUAL, ...more.ip },
  tcp: { sourcePort, destinationPort: 80, flags: 'A', ...more.tcp },
});

/** An error about a segment from the virtual server to the client. */
const icmp = (clientPort: number, type = 3): PacketSpec => ({
  ethernet: { source: CLIENT_MAC, destination: HERE_MAC },
  ip: { source: '10.77.0.9', destination: VIRTUAL },
  icmp: {
    type,
    code: 4,
    quoted: build({
      ip: { source: VIRTUAL, destination: CLIENT },
      tcp: { sourcePort: 80, destinationPort: clientPort, flags: 'A' },
    }).subarray(14, 14 + 28),
  },
});

const notices = (clientPort: number, type = 1): PacketSpec =>
  notice({ ixcp: { type, client: CLIENT, virtualAddress: VIRTUAL, clientPort, virtualPort: 80 } });

if (insideNamespace(import.meta.url)) {
  const ports = Array.from({ length: PORTS }, (_, index) => FIRST_PORT + index);

  t.test('which thread gets a frame', async (t) => {
    const guard = load();
    t.teardown(() => guard.close());
    const chosen = (spec: PacketSpec): number => guard.testRun('guard_fanout', build(spec)).verdict;
    const each = (of: (port: number) => PacketSpec): number[] =>
      ports.map((port) => chosen(of(port)));
    const owners = ports.map((port) => ownerOf(port));
    t.equal(new Set(owners).size, WORKERS, 'every worker has some');
    t.strictSame(each(segment), owners, 'segments');
    t.strictSame(each(notices), owners, 'notices, by the session that they are about');
    t.strictSame(each(icmp), owners, 'ICMP errors, by the packet that they are about');
    const others = ports.map((port) => ownerOf(port, WORKERS, 0));
    t.strictSame(
      each((port) => segment(port, { ip: { destination: OTHER } })),
      others,
      'another virtual server',
    );
    t.notSame(others, owners);

    const first = (name: string, of: (port: number) => PacketSpec): void => {
      t.strictSame([...new Set(each(of))], [0], `to the first: ${name}`);
    };
    first('reports', (port) => notices(port, IXCP_REPORT));
    first('no virtual server', (port) => segment(port, { tcp: { destinationPort: 81 } }));
    first('IPv4 options', (port) => segment(port, { ip: { options: Uint8Array.of(1, 1, 1, 0) } }));
    first('later fragments', (port) => segment(port, { ip: { fragmentOffset: 2 } }));
    first('another protocol', (port) => segment(port, { ip: { protocol: 17 } }));
    first('errors about other servers', (port) => ({
      ...icmp(port),
      icmp: { type: 3, code: 0, quoted: new Uint8Array(28) },
    }));
    for (const spec of [segment(ports[0]!), icmp(ports[0]!), notices(ports[0]!)]) {
      const whole = build(spec);
      for (let length = 34; length < whole.length; length++) {
        const verdict = guard.testRun('guard_fanout', whole.subarray(0, length)).verdict;
        t.ok(verdict < WORKERS, `cut at ${length}`);
      }
    }
    share(guard, 1);
    t.strictSame([...new Set(each(segment))], [0], 'one worker has all');
  });

  t.test('rings in a group', async (t) => {
    const farm = await RingFarm.make();
    const guard = load();
    // Without an address filter: every TCP segment counts, and nothing else.
    const only = compileAndLoad(`
      #include <linux/bpf.h>
      #include <bpf/bpf_helpers.h>
      #include <bpf/bpf_endian.h>
      SEC("socket") int only_tcp(struct __sk_buff *skb) {
        __u8 protocol = 0;
        if (skb->protocol != bpf_htons(0x0800) || bpf_skb_load_bytes_relative(skb, 9, &protocol, 1, BPF_HDR_START_NET))
          return 0;
        return skb->pkt_type == 0 && protocol == 6 ? skb->len : 0;
      }
      char licence[] SEC("license") = "GPL";
    `);
    const rings: PacketDatapath[] = [];
    t.teardown(() => {
      for (const ring of rings) ring.close();
      guard.close();
      only.close();
      farm.stop();
    });
    let group = -1;
    for (let worker = 0; worker < WORKERS; worker++) {
      const ring = farm.open({
        filterProgramFd: only.programFd('only_tcp'),
        fanout: { programFd: guard.programFd('guard_fanout'), group },
        receiveBlocks: 16,
      });
      group = ring.fanoutGroup;
      rings.push(ring);
    }
    t.ok(group >= 0);
    t.equal(new Set(rings.map((ring) => ring.fanoutGroup)).size, 1, 'one group');
    const alone = farm.open({ receiveBlocks: 16 });
    t.equal(alone.fanoutGroup, -1, 'a ring outside of it');
    alone.close();

    /** Ports of the segments that each ring has received. */
    const seen = rings.map(() => new Set<number>());
    const poll = (): void => {
      for (const [worker, ring] of rings.entries()) {
        const { view } = ring.memory;
        const receive = (offset: number): void =>
          void seen[worker]?.add(view.getUint16(offset + 34));
        ring.poll({ receive, tick: () => {} }, now);
      }
    };
    const wanted = (of: readonly number[]): number[][] =>
      rings.map((_, worker) => of.filter((port) => ownerOf(port) === worker));
    const connect = async (): Promise<number[][]> => {
      for (const ring of seen) ring.clear();
      // No host answers: each port sends one SYN.
      const done = outputOf(
        farm.client.script(CONNECT, CLIENT, VIRTUAL, String(FIRST_PORT), String(PORTS)),
      );
      const all = (): boolean => {
        poll();
        return seen.reduce((sum, ring) => sum + ring.size, 0) >= PORTS;
      };
      await until('a SYN of every port', all);
      await done;
      poll();
      return seen.map((ring) => [...ring].sort((a, b) => a - b));
    };
    t.strictSame(await connect(), wanted(ports), 'each gets its own');
    run('ip', 'link', 'set', 'e1', 'down');
    run('ip', 'link', 'set', 'e1', 'up');
    t.strictSame(await connect(), wanted(ports), 'also when the interface was down');
    t.throws(
      () => farm.open({ receiveBlocks: 16, fanout: { programFd: 99_999, group: -1 } }),
      { code: 'EBADF' },
      'no program',
    );
  });
}

/** Opens a connection from each of these ports. */
const CONNECT = `
const [from, to, first, count] = process.argv.slice(1);
const { connect } = require('node:net');
for (let port = +first; port < +first + +count; port++) {
  const socket = connect({ host: to, port: 80, localAddress: from, localPort: port });
  socket.on('error', () => {});
  setTimeout(() => socket.destroy(), 300);
}
`;
