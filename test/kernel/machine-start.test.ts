/**
 * A balancer that cannot start or stop properly: a running balancer, or a program that forwards
 * without one, stays.
 */
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { Machine } from '../../src/balancer/machine/machine.js';
import { preflight } from '../../src/balancer/machine/preflight.js';
import { firstSlots } from '../../src/balancer/objects/farm.js';
import { NO_NODE } from '../../src/engine/node-table.js';
import {
  SESSION_RECORD,
  SESSION_RECORD_BYTES,
  SessionRecords,
} from '../../src/engine/table/session-record.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { insideNamespace, run } from './namespace.js';
import { snapshot } from './program.js';
import { NODE_MAC, NODES, VIRTUAL, xdpMachine } from './xdp-machine.js';

if (insideNamespace(import.meta.url)) {
  const { peer, options, warnings, attached, nothingLeft, startOf, started, startAndKill, words } =
    await xdpMachine(t);
  peer.run('ethtool', '-K', 'eth0', 'gro', 'on');
  t.beforeEach(() => {
    warnings.length = 0;
  });

  t.test('a forwarding program stays if `auto` cannot replace it', async (t) => {
    await startAndKill();
    const id = attached()?.id;
    run('ip', 'link', 'set', 'eth0', 'mtu', '9000');
    await t.rejects(Machine.prepare({ ...options, datapath: 'auto' }), {
      code: 'BATON_INTERFACE',
      where: 'eth0',
      message: /MTU.*the program of an earlier run stays, and keeps forwarding/,
      hint: /--detach-all/,
    });
    t.equal(attached()?.id, id);
    t.match(run('ip', '-4', 'address', 'show', 'dev', 'eth0'), `inet ${VIRTUAL}/32`);
    run('ip', 'link', 'set', 'eth0', 'mtu', '1500');
    await (await started({ datapath: 'auto' })).stop();
    nothingLeft(t);
  });

  t.test('`packet` ends no session that an earlier run forwards', async (t) => {
    await startAndKill();
    const id = attached()?.id;
    const records = new SessionRecords(words('sessions').buffer as ArrayBuffer);
    const bytes = new Uint8Array(words('sessions').buffer);
    const put = (slot: number, state: number, node: number): void => {
      records.setNode(slot, node);
      bytes[slot * SESSION_RECORD_BYTES + SESSION_RECORD.state] = state;
    };
    put(0, SessionState.passing, 1);
    put(1, SessionState.handing, 0);
    put(2, SessionState.answering, NO_NODE);
    put(3, SessionState.lingering, 1);
    const packet = { ...options, datapath: 'packet' as const };
    const refusal = {
      code: 'BATON_IN_USE',
      where: 'eth0',
      message: /^2 sessions are forwarded by the XDP program of an earlier run/,
      hint: /datapath: xdp/,
    };
    await t.rejects(preflight(packet), refusal, 'found out before anything is changed');
    await t.rejects(Machine.prepare(packet), refusal);
    t.equal(attached()?.id, id);
    await preflight(options);
    put(0, SessionState.lingering, 1);
    put(1, SessionState.lingering, 1);
    await (await started({ datapath: 'packet' })).stop();
    nothingLeft(t);
  });

  t.test(
    'neither a lower limit nor the removal of a node from the config ends a session',
    async (t) => {
      await startAndKill();
      const records = new SessionRecords(words('sessions').buffer as ArrayBuffer);
      const bytes = new Uint8Array(words('sessions').buffer);
      const SESSIONS = 100;
      for (let slot = 0; slot < SESSIONS; slot++) {
        records.setNode(slot, 1);
        bytes[slot * SESSION_RECORD_BYTES + SESSION_RECORD.state] = SessionState.passing;
      }
      const limits = { sessions: 64, halfOpen: 64, headBytes: 16_384 };
      const one = firstSlots({ ...options, nodes: options.nodes.slice(0, 1) });
      const fewer = await Machine.prepare({ ...options, farm: one, limits });
      t.same(fewer.slots.nodes, [
        ...one.nodes,
        { slot: 1, name: NODES[1], address: addressNumber(NODES[1]!), weight: 0, retired: true },
      ]);
      const { capacity, earlier } = startOf(fewer);
      t.equal(capacity, SESSIONS, 'room for the existing sessions only');
      t.same([...(earlier?.nodes.subarray(0, 2) ?? [])], [0, 1]);
      t.same(fewer.earlierNeighbours(), [{ node: 1, mac: NODE_MAC }]);
      t.same(warnings, []);
      await fewer.leave();
      const without = await Machine.prepare({
        ...options,
        farm: firstSlots({ ...options, virtualServers: options.virtualServers.slice(1) }),
      });
      t.same(warnings, [
        `${SESSIONS} sessions of the earlier run end: they are of virtual server ${VIRTUAL}:80, which is no longer in the config`,
      ]);
      t.equal(startOf(without).capacity, 1_500);
      await without.stop();
      nothingLeft(t);
    },
  );

  t.test('the check before the start changes nothing, and finds errors', async (t) => {
    const occupied = snapshot();
    await preflight(options);
    t.same(snapshot(), occupied);
    for (const [change, error] of [
      [{ interface: 'eth9' }, { code: 'BATON_INTERFACE', where: 'eth9' }],
      [{ address: addressNumber('10.9.9.9') }, { code: 'BATON_INTERFACE' }],
    ] as const) {
      await t.rejects(preflight({ ...options, ...change }), error);
    }
    run('ip', 'link', 'set', 'eth0', 'mtu', '500');
    await t.rejects(preflight(options), { code: 'BATON_INTERFACE', message: /MTU is 500/ });
    run('ip', 'link', 'set', 'eth0', 'mtu', '1500');
    nothingLeft(t);
  });

  t.test('a part that cannot be removed does not keep others from being removed', async (t) => {
    const machine = await started();
    const parts = machine as unknown as { guard: { close(): void }; xdp: { close(): void } };
    for (const part of [parts.guard, parts.xdp]) {
      const close = part.close.bind(part);
      part.close = () => {
        close();
        throw new Error('broken');
      };
    }
    await machine.stop();
    t.same(warnings, [
      'a step of the shutdown failed: broken',
      'a step of the shutdown failed: broken',
    ]);
    nothingLeft(t);
    await (await started()).stop();
  });
}
