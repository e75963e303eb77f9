/** Sessions of an earlier run: which of them an engine takes over, and under which numbers. */
import t from 'tap';
import { EarlierTable } from '../../../src/balancer/threads/earlier-table.js';
import {
  type RecordReader,
  SESSION_RECORD,
  SESSION_RECORD_BYTES,
} from '../../../src/engine/table/session-record.js';
import { SessionState } from '../../../src/engine/table/session-table.js';

/** Our numbers of the earlier run's virtual servers and nodes; -1: no longer in the config. */
const SERVERS = Int32Array.of(1, -1, 0);
const NODES = Int32Array.of(4, -1);

/** A table with one session for each [slot, virtual server, node]. */
function table(count: number, sessions: readonly (readonly [number, number, number])[]) {
  const memory = new ArrayBuffer(count * SESSION_RECORD_BYTES);
  const view = new DataView(memory);
  for (const [slot, server, node] of sessions) {
    const at = slot * SESSION_RECORD_BYTES;
    view.setUint8(at + SESSION_RECORD.state, SessionState.passing);
    view.setUint32(at + SESSION_RECORD.portServer, (40_000 << 16) | server, true);
    view.setUint16(at + SESSION_RECORD.node, node, true);
  }
  let closes = 0;
  const map = { memory: () => memory, close: () => void closes++ };
  const addresses = { memory: () => new ArrayBuffer(16), close: () => {} };
  const start = { fd: 9, addressesFd: 10, count, servers: SERVERS, nodes: NODES };
  const earlier = new EarlierTable(start, map, addresses);
  return { earlier, closes: () => closes };
}

/** An engine that notes what it is given, and has room for so many sessions. */
function heir(room: number) {
  const taken: number[][] = [];
  const losses: number[][] = [];
  return {
    sessions: {
      get size() {
        return taken.length;
      },
    },
    taken,
    losses,
    takeOver(_old: RecordReader, slot: number, node: number, server: number, now: number) {
      if (taken.length === room) return false;
      taken.push([slot, node, server, now]);
      return true;
    },
    takeLoss(_old: RecordReader, slot: number, server: number, now: number) {
      losses.push([slot, server, now]);
    },
  };
}

t.test('sessions are taken over under our numbers of node and virtual server', async (t) => {
  const { earlier } = table(8, [
    [1, 0, 0],
    [3, 2, 1],
    [6, 2, 7],
  ]);
  const engine = heir(10);
  t.equal(earlier.takeOver(engine, 50), 3);
  t.same(engine.taken, [
    [1, 4, 1, 50],
    [3, -1, 0, 50],
    [6, -1, 0, 50],
  ]);
});

t.test('sessions of a virtual server that is gone or unknown are left out', async (t) => {
  const { earlier } = table(4, [
    [0, 1, 0],
    [1, 9, 0],
    [2, 0, 0],
  ]);
  const engine = heir(10);
  t.equal(earlier.takeOver(engine, 1), 1);
  earlier.takeLosses(engine, 2);
  t.same(engine.losses, [[2, 1, 2]]);
});

t.test('a full engine takes no more sessions, and only new ones are counted', async (t) => {
  const { earlier } = table(4, [
    [0, 0, 0],
    [1, 0, 0],
    [2, 0, 0],
  ]);
  const engine = heir(2);
  t.equal(earlier.takeOver(engine, 1), 2);
  t.equal(earlier.takeOver(engine, 2), 0);
});

t.test('the map is closed by close alone', async (t) => {
  const { earlier, closes } = table(1, []);
  t.equal(earlier.takeOver(heir(1), 1), 0);
  t.equal(closes(), 0);
  earlier.close();
  t.equal(closes(), 1);
});
