/**
 * XDP programs and their maps through the addon: attaching, replacing, pins, shared memory, ring
 * buffers.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { type BpfObject, native } from '../../src/host/native.js';
import { insideNamespace, Peer, run } from './namespace.js';
import { compileBpf } from './ring-farm.js';

/**
 * Counts frames in shared memory, reports each in a ring buffer, and passes it with its first byte
 * inverted.
 */
const PROGRAM = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct cell { __u32 count; __u8 rest[8]; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 4); __type(key, __u32); __type(value, struct cell); } cells SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u16); } words SEC(".maps");
struct ring { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); };
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 4); __type(key, __u32); __array(values, struct ring); } rings SEC(".maps");
struct record { __u32 number, length, queue; };
SEC("xdp") int tell(struct xdp_md *context) {
  __u8 *data = (void *)(long)context->data;
  __u32 one = 1;
  struct cell *cell = bpf_map_lookup_elem(&cells, &one);
  void *ring = bpf_map_lookup_elem(&rings, &one);
  if (!cell || !ring || data + 14 > (__u8 *)(long)context->data_end) return XDP_ABORTED;
  __sync_fetch_and_add(&cell->count, 1);
  *data = ~*data;
  if (cell->rest[0]) {
    __u64 odd = 0;
    bpf_ringbuf_output(ring, &odd, sizeof odd, BPF_RB_NO_WAKEUP);
  }
  struct record *record = bpf_ringbuf_reserve(ring, sizeof *record, 0);
  if (!record) return XDP_DROP;
  record->number = cell->count;
  record->length = (__u8 *)(long)context->data_end - data;
  record->queue = context->rx_queue_index;
  if (cell->rest[1]) bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
  else bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
  return XDP_PASS;
}
SEC("xdp") int other(struct xdp_md *context) { return XDP_PASS; }
char licence[] SEC("license") = "GPL";
`;
const XDP_DROP = 1;
const XDP_PASS = 2;
const RINGBUF = 27;
const CELL_BYTES = 16;
const RING_BYTES = 4096;
const RECORD_WORDS = 3;

function codeOf(action: () => unknown): unknown {
  try {
    action();
    return undefined;
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
}

function number(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function wordOf(value: Uint8Array | undefined): number {
  return value === undefined ? 0 : (new Uint32Array(value.slice().buffer)[0] ?? 0);
}

if (insideNamespace(import.meta.url)) {
  const directory = mkdtempSync(join(tmpdir(), 'baton-xdp-'));
  const object = join(directory, 'programs.o');
  writeFileSync(join(directory, 'programs.c'), PROGRAM);
  compileBpf(join(directory, 'programs.c'), object);
  const peer = await Peer.make('e0', '10.77.0.2/24', '02:00:00:00:00:02');
  const e0 = native().interfaceInfo('e0')?.index ?? 0;
  const load = (): BpfObject => {
    const loaded = native().loadBpf(object);
    native().fillRings(loaded.mapFd('rings'), 4, RING_BYTES);
    return loaded;
  };
  t.teardown(() => {
    peer.stop();
    rmSync(directory, { recursive: true });
  });

  t.test('a map is memory on both sides', async (t) => {
    const bpf = load();
    const memory = bpf.mapMemory('cells');
    t.equal(memory.byteLength, 4 * CELL_BYTES);
    t.equal(bpf.mapMemory('cells'), memory);
    const cells = new Uint32Array(memory);
    cells[CELL_BYTES / 4] = 41;
    t.match(bpf.testRunXdp('tell', new Uint8Array(60)), {
      verdict: XDP_PASS,
      frame: { 0: 255, length: 60 },
    });
    t.equal(cells[CELL_BYTES / 4], 42);
    t.same(bpf.mapLookup('cells', number(1))?.subarray(0, 4), number(42));

    const handle = native().openMap({ fd: bpf.mapFd('cells') });
    t.match(handle, { name: 'cells', type: 2, keyBytes: 4, valueBytes: 12, maxEntries: 4 });
    const other = new Uint32Array(handle.memory());
    other[CELL_BYTES / 4] = 7;
    t.equal(cells[CELL_BYTES / 4], 7, 'the same memory at another place');
    bpf.close();
    t.equal(memory.byteLength, 0, 'detached');
    t.equal(other[CELL_BYTES / 4], 7, 'a handle keeps the map alive');
    handle.close();
    t.equal(other.length, 0);
    t.throws(() => handle.memory(), /closed/);
    handle.close();
  });

  t.test('maps that cannot be mapped are refused', async (t) => {
    const bpf = load();
    t.throws(() => bpf.mapMemory('words'), { code: 'ENOTSUP', message: /words/ });
    t.throws(() => bpf.mapMemory('nothing'), { code: 'ENOENT' });
    bpf.close();
    t.throws(() => bpf.mapMemory('cells'), { code: 'EBADF' });
  });

  t.test('a test run has an interface, a queue and repetitions', async (t) => {
    const bpf = load();
    const ring = native().openRecordRing(bpf.mapFd('rings'), 1, RECORD_WORDS);
    const into = new Uint32Array(2 * RECORD_WORDS);
    t.equal(ring.drain(into), 0);
    bpf.testRunXdp('tell', new Uint8Array(100), { ingressIndex: e0, queue: 0, repeat: 3 });
    t.equal(ring.drain(into), 2, 'as many as fit');
    t.same([...into], [1, 100, 0, 2, 100, 0]);
    t.equal(ring.drain(into), 1);
    t.equal(into[0], 3);
    t.throws(() => bpf.testRunXdp('tell', new Uint8Array(100), { ingressIndex: e0, queue: 77 }), {
      code: 'EINVAL',
    });
    t.equal(
      bpf.testRunXdp('tell', new Uint8Array(100), { ingressIndex: e0, repeat: 2, live: true }).frame
        .length,
      0,
    );
    t.equal(ring.drain(into), 2, 'live frames are run too');
    const { id } = bpf.programInfo('tell');
    t.ok(id > 0);
    t.equal(bpf.programInfo('tell').runCount, 0, 'not counted until it is switched on');
    ring.close();
    t.throws(() => ring.drain(into), /closed/);
    bpf.close();
  });

  t.test('a ring buffer wraps, is full, and skips discarded records', async (t) => {
    const bpf = load();
    const cells = new Uint8Array(bpf.mapMemory('cells'));
    const ring = native().openRecordRing(bpf.mapFd('rings'), 1, RECORD_WORDS);
    const into = new Uint32Array(1000 * RECORD_WORDS);
    let next = 1;
    for (let round = 0; round < 40; round++) {
      bpf.testRunXdp('tell', new Uint8Array(60), { repeat: 50 });
      t.equal(ring.drain(into), 50);
      for (let i = 0; i < 50; i++) {
        if (into[i * RECORD_WORDS] !== next++) t.fail(`record ${next - 1} in round ${round}`);
      }
    }
    const before = new Uint32Array(cells.buffer)[CELL_BYTES / 4] ?? 0;
    t.equal(bpf.testRunXdp('tell', new Uint8Array(60), { repeat: 500 }).verdict, XDP_DROP);
    const most = Math.floor(RING_BYTES / 24);
    const held = ring.drain(into);
    t.ok(held === most || held === most - 1, `${held} of ${most}`);
    t.equal(into[0], before + 1);
    t.equal(bpf.testRunXdp('tell', new Uint8Array(60)).verdict, XDP_PASS, 'there is room again');
    t.equal(ring.drain(into), 1);

    cells[CELL_BYTES + 4] = 1;
    bpf.testRunXdp('tell', new Uint8Array(60), { repeat: 5 });
    t.equal(ring.drain(into), 5, 'records of another size are left out');
    cells[CELL_BYTES + 5] = 1;
    bpf.testRunXdp('tell', new Uint8Array(60), { repeat: 5 });
    t.equal(ring.drain(into), 0, 'and those that were discarded');
    ring.close();
    t.throws(() => native().openRecordRing(bpf.mapFd('words'), 0, RECORD_WORDS), {
      code: 'EINVAL',
    });
    t.throws(() => native().openRecordRing(bpf.mapFd('rings'), 9, RECORD_WORDS), {
      code: 'ENOENT',
    });
    bpf.close();
  });

  for (const mode of ['native', 'generic'] as const) {
    t.test(`${mode}: a program is attached, found, replaced and detached`, async (t) => {
      const [mine, next] = [load(), load()];
      t.equal(native().xdpProgram(e0), undefined);
      t.equal(native().detachXdp(e0, mode), false);
      native().attachXdp(e0, mine.programFd('tell'), mode);
      const attached = native().xdpProgram(e0);
      t.match(attached, { name: 'tell', mode, id: mine.programInfo('tell').id });
      t.same(attached?.maps.map((map) => map.name).sort(), ['cells', 'rings']);
      t.match(
        attached?.maps.find((map) => map.name === 'cells'),
        { type: 2, keyBytes: 4, valueBytes: 12, maxEntries: 4 },
      );
      t.match(
        codeOf(() => native().attachXdp(e0, next.programFd('tell'), mode)),
        /^(EBUSY|EEXIST)$/,
      );
      t.match(
        codeOf(() => native().attachXdp(e0, next.programFd('tell'), mode, next.programFd('other'))),
        /^(EBUSY|EEXIST)$/,
        'only in place of the named program',
      );
      native().attachXdp(e0, next.programFd('other'), mode, mine.programFd('tell'));
      t.match(native().xdpProgram(e0), { name: 'other', maps: [] });
      t.equal(native().detachXdp(e0, mode, mine.programFd('tell')), false, 'another one stays');
      t.match(native().xdpProgram(e0), { name: 'other' });
      t.equal(native().detachXdp(e0, mode, next.programFd('other')), true);
      t.equal(native().xdpProgram(e0), undefined);
      mine.close();
      next.close();
    });
  }

  t.test('the maps of an attached program are found by their ids', async (t) => {
    const bpf = load();
    native().attachXdp(e0, bpf.programFd('tell'), 'native');
    const cells = new Uint32Array(bpf.mapMemory('cells'));
    cells[0] = 99;
    const ids = new Map(
      native()
        .xdpProgram(e0)
        ?.maps.map((map) => [map.name, map.id]),
    );
    const handle = native().openMap({ id: ids.get('cells') ?? 0 });
    const program = native().openProgram({ id: native().xdpProgram(e0)?.id ?? 0 });
    bpf.close();
    t.equal(new Uint32Array(handle.memory())[0], 99, 'without the process that made it');
    const rings = native().openMap({ id: ids.get('rings') ?? 0 });
    t.equal(native().openMap({ id: wordOf(rings.lookup(number(2))) }).type, RINGBUF);
    t.equal(native().detachXdp(e0, 'native', program.fd), true);
    program.close();
    t.throws(() => native().openMap({ id: 0x7fff_fff0 }), { code: 'ENOENT' });
    t.throws(() => native().openProgram({ id: 0x7fff_fff0 }), { code: 'ENOENT' });
    handle.close();
    rings.close();
  });

  t.test('pins keep maps and programs, and another object can use them', async (t) => {
    const mount = join(directory, 'bpf');
    run('mkdir', mount);
    run('mount', '-t', 'bpf', 'bpf', mount);
    const bpf = load();
    new Uint32Array(bpf.mapMemory('cells'))[0] = 5;
    bpf.mapUpdate('words', number(3), Uint8Array.of(1, 2));
    bpf.pinMap('cells', join(mount, 'cells'));
    bpf.pinMap('words', join(mount, 'words'));
    bpf.pinProgram('tell', join(mount, 'tell'));
    t.equal(
      codeOf(() => bpf.pinMap('cells', join(mount, 'cells'))),
      'EEXIST',
    );
    const { id } = bpf.programInfo('tell');
    bpf.close();
    t.ok(existsSync(join(mount, 'cells')));

    const program = native().openProgram({ path: join(mount, 'tell') });
    t.match(program, { id, name: 'tell' });
    const cells = native().openMap({ path: join(mount, 'cells') });
    t.equal(new Uint32Array(cells.memory())[0], 5);
    const words = native().openMap({ path: join(mount, 'words') });
    t.same(words.entries(), [{ key: number(3), value: Uint8Array.of(1, 2) }]);
    words.update(number(4), Uint8Array.of(3, 4));
    t.same(words.lookup(number(4)), Uint8Array.of(3, 4));
    t.equal(words.lookup(number(5)), undefined);
    t.equal(words.delete(number(4)), true);
    t.equal(words.delete(number(4)), false);

    const heir = native().loadBpf(object, {
      reuse: { cells: cells.fd },
      maxEntries: { words: 100 },
    });
    t.equal(new Uint32Array(heir.mapMemory('cells'))[0], 5);
    t.equal(native().openMap({ fd: heir.mapFd('words') }).maxEntries, 100);
    t.throws(() => native().loadBpf(object, { reuse: { nothing: cells.fd } }), { code: 'ENOENT' });
    t.throws(() => native().loadBpf(object, { reuse: { words: cells.fd } }), { code: 'EINVAL' });
    t.throws(() => native().openMap({ path: join(mount, 'tell') }), {
      code: 'EINVAL',
      message: /bpf-map/,
    });
    t.throws(() => native().openProgram({ path: join(mount, 'cells') }), {
      code: 'EINVAL',
      message: /bpf-prog/,
    });
    t.throws(() => native().openMap({ path: join(mount, 'absent') }), { code: 'ENOENT' });
    t.throws(() => native().openMap({ fd: 9999 }), { code: 'EBADF' });
    for (const open of [program, cells, words, heir]) open.close();
    run('umount', mount);
  });

  t.test('a thread maps a map of another thread', async (t) => {
    const bpf = load();
    const cells = new Uint32Array(bpf.mapMemory('cells'));
    const source = `
      const { createRequire } = require('node:module');
      const { parentPort, workerData } = require('node:worker_threads');
      const addon = createRequire(workerData.file)('../../../build/Release/baton.node');
      const map = addon.openMap({ fd: workerData.fd });
      Atomics.add(new Uint32Array(map.memory()), 0, 1);
      parentPort.postMessage('done');
    `;
    for (let i = 1; i <= 3; i++) {
      const worker = new Worker(source, {
        eval: true,
        workerData: { file: import.meta.url, fd: bpf.mapFd('cells') },
      });
      await new Promise((resolve) => worker.once('message', resolve));
      t.equal(cells[0], i);
      await worker.terminate();
    }
    bpf.close();
  });

  t.test('queues and drivers of interfaces', async (t) => {
    run(
      'ip',
      'link',
      'add',
      'v0',
      'numrxqueues',
      '4',
      'type',
      'veth',
      'peer',
      'name',
      'v1',
      'numrxqueues',
      '1',
    );
    run('ip', 'link', 'add', 'b0', 'type', 'bridge');
    t.equal(native().receiveQueues('v0'), 4);
    t.equal(native().receiveQueues('v1'), 1);
    t.equal(native().receiveQueues('b0'), 1);
    t.equal(native().interfaceDriver('v0'), 'veth');
    t.equal(native().interfaceDriver('b0'), 'bridge');
    t.throws(() => native().receiveQueues('nothing'), { code: 'ENODEV' });
    t.throws(() => native().interfaceDriver('a-name-that-is-too-long'), { code: 'ENODEV' });
    const loaded = load();
    t.throws(
      () =>
        native().attachXdp(
          native().interfaceInfo('b0')?.index ?? 0,
          loaded.programFd('other'),
          'native',
        ),
      {
        code: 'ENOTSUP',
      },
    );
    t.throws(() => native().attachXdp(9999, loaded.programFd('other'), 'native'), {
      code: 'ENODEV',
    });
    t.throws(() => native().attachXdp(e0, 999, 'native'), { code: 'EBADF' });
    loaded.close();
  });
}
