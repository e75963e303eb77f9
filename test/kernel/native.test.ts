/**
 * The addon, except for the packet ring and AF_XDP: interfaces, neighbours, raw sockets, BPF.
 */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { native } from '../../src/host/native.js';
import { insideNamespace, macOf, Peer, run, until } from './namespace.js';
import { compileBpf } from './ring-farm.js';

const PEER_MAC = '02:00:00:00:00:02';
const NUD_PERMANENT = 0x80;
const PROTOCOL = 254;

/** Counts frames by length class; drops frames that carry the mark 7, marks others with 9. */
const PROGRAM = `
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); } counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u16); } words SEC(".maps");
SEC("tc") int sort_frame(struct __sk_buff *skb) {
  __u32 key = skb->len > 100;
  __u64 *count = bpf_map_lookup_elem(&counts, &key);
  if (count) ++*count;
  if (skb->mark == 7) return TC_ACT_SHOT;
  skb->mark = 9;
  return TC_ACT_OK;
}
char licence[] SEC("license") = "GPL";
`;
/**
 * A thread that reports its scheduling policy before it asks for SCHED_BATCH, the result, and its
 * policy after that. Then its policy and nice value while it is prompt, and after that.
 */
const SCHEDULED = `
const { readFileSync } = require('node:fs');
const { getPriority } = require('node:os');
const { parentPort, workerData } = require('node:worker_threads');
const policy = ${policyOfThread.toString()};
import(workerData).then(({ native }) => {
  const before = policy(readFileSync);
  const done = native().scheduleInBatches();
  const said = [before, done, policy(readFileSync)];
  said.push(native().beginPrompt(-5, 100_000), policy(readFileSync), getPriority());
  native().endPrompt();
  parentPort.postMessage([...said, policy(readFileSync), getPriority()]);
});
`;
const SCHED_OTHER = 0;
const SCHED_BATCH = 3;
const REFUSED = `
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int beyond(struct __sk_buff *skb) { return *(char *)(long)(skb->data + 100000); }
char licence[] SEC("license") = "GPL";
`;

function compile(directory: string, name: string, source: string): string {
  const object = join(directory, `${name}.o`);
  writeFileSync(join(directory, `${name}.c`), source);
  compileBpf(join(directory, `${name}.c`), object);
  return object;
}

/**
 * The calling thread's scheduling policy: field 41 of its stat, counted from behind field 2, the
 * name.
 */
function policyOfThread(read: typeof readFileSync): number {
  const stat = read('/proc/thread-self/stat', 'latin1');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[41 - 3]);
}

function codeOf(action: () => unknown): unknown {
  try {
    action();
    return undefined;
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
}

if (insideNamespace(import.meta.url)) {
  const directory = mkdtempSync(join(tmpdir(), 'baton-native-'));
  const peer = await Peer.make('e0', '10.77.0.2/24', PEER_MAC);
  t.teardown(() => {
    peer.stop();
    rmSync(directory, { recursive: true });
  });
  run('ip', 'link', 'set', 'e0', 'address', '02:00:00:00:00:01', 'mtu', '1400');
  run('ip', 'address', 'add', '10.77.0.1/24', 'dev', 'e0');
  run('ip', 'address', 'add', '10.77.0.9/32', 'dev', 'e0', 'label', 'e0:vip');
  const e0 = native().interfaceInfo('e0')?.index ?? 0;

  t.test('an interface is described', async (t) => {
    const info = native().interfaceInfo('e0');
    t.ok(e0 > 0);
    t.match(info, { index: e0, mtu: 1400, up: true, loopback: false });
    t.same(info?.mac, macOf('02:00:00:00:00:01'));
    t.same(info?.addresses, [
      { address: addressNumber('10.77.0.1'), prefix: 24, label: 'e0' },
      { address: addressNumber('10.77.0.9'), prefix: 32, label: 'e0:vip' },
    ]);
    t.match(native().interfaceInfo('lo'), { loopback: true, mac: new Uint8Array(6) });
    t.equal(native().interfaceInfo('nothing'), undefined);
    run('ip', 'link', 'add', 'down0', 'type', 'veth', 'peer', 'name', 'down1');
    t.match(native().interfaceInfo('down0'), { up: false });
  });

  t.test('neighbours are listed and resolved', async (t) => {
    run(
      'ip',
      'neighbour',
      'add',
      '10.77.0.5',
      'lladdr',
      '02:00:00:00:00:05',
      'dev',
      'e0',
      'nud',
      'permanent',
    );
    const find = (address: string) =>
      native()
        .neighbours(e0)
        .find((entry) => entry.address === addressNumber(address));
    t.same(find('10.77.0.5'), {
      address: addressNumber('10.77.0.5'),
      mac: macOf('02:00:00:00:00:05'),
      state: NUD_PERMANENT,
    });

    t.equal(find('10.77.0.2'), undefined);
    native().resolveNeighbour(e0, addressNumber('10.77.0.2'));
    await until('10.77.0.2 resolves', () => find('10.77.0.2')?.mac !== undefined);
    t.same(find('10.77.0.2')?.mac, macOf(PEER_MAC));
    native().resolveNeighbour(e0, addressNumber('10.77.0.2'));

    native().resolveNeighbour(e0, addressNumber('10.77.0.77'));
    t.match(find('10.77.0.77'), { mac: undefined });
    t.same(native().neighbours(e0 + 1000), []);
    t.equal(
      codeOf(() => native().resolveNeighbour(e0 + 1000, addressNumber('10.77.0.2'))),
      'ENODEV',
    );
    t.throws(() => native().resolveNeighbour(e0, '10.77.0' as never), TypeError);
  });

  t.test('a neighbour is forgotten, and every change is reported', async (t) => {
    const events = native().openNeighbourEvents();
    t.teardown(() => events.close());
    t.throws(() => events.start(undefined as never), TypeError);
    const changes: unknown[] = [];
    events.start((address) => changes.push(address));
    t.throws(() => events.start(() => {}), /started already/);
    run('ip', 'neighbour', 'add', '10.77.0.6', 'lladdr', '02:00:00:00:00:06', 'dev', 'e0');
    await until('the change', () => changes.includes(addressNumber('10.77.0.6')));
    changes.length = 0;
    native().forgetNeighbour(e0, addressNumber('10.77.0.6'));
    await until('the removal', () => changes.includes(addressNumber('10.77.0.6')));
    t.notOk(
      native()
        .neighbours(e0)
        .some((entry) => entry.address === addressNumber('10.77.0.6') && entry.mac !== undefined),
    );
    t.equal(
      codeOf(() => native().forgetNeighbour(e0, addressNumber('10.77.0.66'))),
      'ENOENT',
    );
    t.throws(() => native().forgetNeighbour(e0, '10.77.0' as never), TypeError);
    events.close();
    events.close();
    t.throws(() => events.start(() => {}), /closed/);
  });

  t.test('raw datagrams go both ways', async (t) => {
    const here = native().openRawSocket(PROTOCOL);
    const got: [unknown, number[]][] = [];
    here.start((source, payload) => got.push([source, [...payload]]));
    here.send(addressNumber('127.0.0.1'), Uint8Array.of(1, 2, 3));
    here.send(addressNumber('10.77.0.1'), new Uint8Array(0));
    await until('two datagrams', () => got.length === 2);
    t.same(got, [
      [addressNumber('127.0.0.1'), [1, 2, 3]],
      [addressNumber('10.77.0.1'), []],
    ]);
    t.throws(() => here.send('localhost' as never, Uint8Array.of(1)), TypeError);
    t.equal(
      codeOf(() => here.send(addressNumber('192.0.2.1'), Uint8Array.of(1))),
      'ENETUNREACH',
    );
    here.close();
    here.close();
    t.throws(() => here.send(addressNumber('127.0.0.1'), Uint8Array.of(1)), /closed/);
  });

  t.test('a raw socket closes from inside its callback', async (t) => {
    const socket = native().openRawSocket(PROTOCOL);
    let calls = 0;
    socket.start(() => {
      calls++;
      socket.close();
    });
    socket.send(addressNumber('127.0.0.1'), Uint8Array.of(1));
    socket.send(addressNumber('127.0.0.1'), Uint8Array.of(2));
    await until('a call', () => calls > 0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    t.equal(calls, 1);
  });

  t.test('whether the kernel has a function', async (t) => {
    t.equal(native().kernelHasFunction('tcp_v4_rcv'), true);
    t.equal(native().kernelHasFunction('no_such_function_here'), false);
  });

  t.test('SCHED_BATCH, and for a while a prompt thread, for one thread only', async (t) => {
    t.equal(policyOfThread(readFileSync), SCHED_OTHER);
    const workerData = new URL('../../src/host/native.js', import.meta.url).href;
    const worker = new Worker(SCHEDULED, { eval: true, workerData });
    const [said] = (await once(worker, 'message')) as [unknown];
    t.strictSame(said, [
      ...[SCHED_OTHER, true, SCHED_BATCH],
      ...[true, SCHED_OTHER, -5],
      ...[SCHED_BATCH, 0],
    ]);
    t.equal(policyOfThread(readFileSync), SCHED_OTHER);
    await worker.terminate();
  });

  t.test('a BPF object is loaded, used and closed', async (t) => {
    const object = native().loadBpf(compile(directory, 'sort', PROGRAM), {
      maxEntries: { words: 3 },
    });
    t.ok(object.programFd('sort_frame') >= 0);
    t.equal(
      codeOf(() => object.programFd('other')),
      'ENOENT',
    );

    const key = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);
    const value = (n: number): Uint8Array => new Uint8Array(Uint16Array.of(n).buffer);
    t.equal(object.mapLookup('words', key(1)), undefined);
    for (const n of [1, 2, 3]) {
      object.mapUpdate('words', key(n), value(n * 10));
    }
    t.equal(
      codeOf(() => object.mapUpdate('words', key(4), value(4))),
      'E2BIG',
      'maxEntries is in force',
    );
    t.same(object.mapLookup('words', key(2)), value(20));
    t.equal(object.mapEntries('words').length, 3);
    t.equal(object.mapDelete('words', key(2)), true);
    t.equal(object.mapDelete('words', key(2)), false);
    t.same(
      object
        .mapEntries('words')
        .map((entry) => [entry.key[0], entry.value[0]])
        .sort(),
      [
        [1, 10],
        [3, 30],
      ],
    );
    t.equal(
      codeOf(() => object.mapLookup('words', value(1))),
      'EINVAL',
    );
    t.equal(
      codeOf(() => object.mapLookup('nothing', key(1))),
      'ENOENT',
    );

    const frame = new Uint8Array(60).fill(0xa5);
    t.same(object.testRun('sort_frame', frame), { verdict: 0, frame, mark: 9 });
    t.match(
      object.testRun('sort_frame', frame, { mark: 7, ingressIndex: e0, interfaceIndex: e0 }),
      {
        verdict: 2,
        mark: 7,
      },
    );
    object.testRun('sort_frame', new Uint8Array(200));
    t.same(object.mapSums('counts', 2), Float64Array.of(2, 1));
    t.equal(
      codeOf(() => object.mapSums('counts', 3)),
      'EINVAL',
    );
    t.equal(
      codeOf(() => object.mapEntries('counts')),
      'EINVAL',
    );
    object.close();
    object.close();
    t.equal(
      codeOf(() => object.programFd('sort_frame')),
      'EBADF',
    );
  });

  t.test('a tc program is attached, replaced and detached', async (t) => {
    const object = native().loadBpf(compile(directory, 'attach', PROGRAM));
    const hooks = () => run('tc', 'qdisc', 'show', 'dev', 'e0');
    t.equal(native().detachTc(e0, 'ingress', 5, 0xba), false, 'no clsact yet');
    object.attachTc('sort_frame', e0, 'ingress', 5, 0xba);
    object.attachTc('sort_frame', e0, 'ingress', 5, 0xba);
    object.attachTc('sort_frame', e0, 'egress', 5, 0xba);
    t.equal(run('tc', 'filter', 'show', 'dev', 'e0', 'ingress').match(/handle 0xba/g)?.length, 1);
    object.close();

    t.equal(native().detachTc(e0, 'ingress', 5, 0xbb), false);
    t.equal(native().detachTc(e0, 'ingress', 6, 0xba), false);
    t.equal(native().detachTc(e0, 'ingress', 5, 0xba), true);
    native().removeClsactIfEmpty(e0);
    t.match(hooks(), /clsact/, 'the egress filter keeps clsact');
    t.equal(native().detachTc(e0, 'egress', 5, 0xba), true);
    t.equal(native().detachTc(e0, 'egress', 5, 0xba), false);
    native().removeClsactIfEmpty(e0);
    t.notMatch(hooks(), /clsact/);
    native().removeClsactIfEmpty(e0);
    t.equal(native().detachTc(e0 + 1000, 'egress', 5, 0xba), false);
    native().removeClsactIfEmpty(e0 + 1000);
  });

  t.test('a BPF object that cannot be loaded says why', async (t) => {
    t.throws(() => native().loadBpf(compile(directory, 'beyond', REFUSED)), {
      message: /invalid (mem|access)|R\d/,
    });
    t.equal(
      codeOf(() => native().loadBpf(join(directory, 'missing.o'))),
      'ENOENT',
    );
    writeFileSync(join(directory, 'broken.o'), 'not ELF');
    t.type(
      codeOf(() => native().loadBpf(join(directory, 'broken.o'))),
      'string',
    );
    t.equal(
      codeOf(() =>
        native().loadBpf(compile(directory, 'sizes', PROGRAM), { maxEntries: { other: 1 } }),
      ),
      'ENOENT',
    );
  });
}
