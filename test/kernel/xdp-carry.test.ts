/** The XDP program and sessions of nodes behind routers: it carries what it forwards. */
import t from 'tap';
import { addressNumber, build } from '../../lab/packet.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import {
  BALANCER,
  CLIENT_ISN,
  LO,
  MTU,
  NODE,
  onward,
  SERVER_ISN,
  segment,
  unfinished,
  Verdict,
} from './xdp-packets.js';
import { Twin } from './xdp-twin.js';

const { tx, redirect, pass } = Verdict;
const FIRST = (CLIENT_ISN + 1) >>> 0;
const plain = { flags: 'A', seq: FIRST, ack: SERVER_ISN + 1 };
const ETHERNET = 14;
const CARRY = 28;
const HEADERS = 40;

/** A program whose usual node is behind routers. */
function routed(): Fast {
  const fast = new Fast();
  fast.node(NODE.index, { mac: NODE.mac, interface: LO, via: 'ixp' });
  return fast;
}

/** The frame in which this one is carried, as docs/ixp.md defines it. */
function carried(frame: Uint8Array, nonce: number): Uint8Array {
  const inner = Uint8Array.from(onward(frame).slice(ETHERNET));
  const total = new DataView(inner.buffer).getUint16(2);
  const head = build({
    ip: {
      source: BALANCER.address,
      destination: NODE.address,
      protocol: 253,
      id: 0,
      dontFragment: true,
      totalLength: total + CARRY,
    },
  }).slice(ETHERNET, ETHERNET + 20);
  const carry = Buffer.alloc(8);
  carry.set([1, 9, 8, 0]);
  carry.writeUInt32BE(nonce, 4);
  return Buffer.concat([onward(frame).slice(0, ETHERNET), head, carry, inner.slice(0, total)]);
}

if (insideNamespace(import.meta.url)) {
  t.test('a segment is carried whole, without its padding', async (t) => {
    const fast = routed();
    t.teardown(() => fast.close());
    const slot = fast.session();
    const nonce = fast.tables[0]!.nonce(slot);
    for (const [tcp, text] of [
      [plain, ''],
      [{ ...plain, options: { timestamps: [7, 8] } }, 'x'.repeat(1000)],
      [plain, 'x'.repeat(MTU - CARRY - HEADERS)],
    ] as const) {
      const frame = build(segment(tcp, text, { ip: { ttl: 9 }, trailer: new Uint8Array(6) }));
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: tx, counters: ['forwarded', 'carried'] });
      t.strictSame([...outcome.frame], [...carried(frame, nonce)]);
    }
  });

  t.test('the engine gets what must be cut or finished first', async (t) => {
    const fast = routed();
    t.teardown(() => fast.close());
    fast.engine(true);
    fast.session();
    const large = build(segment(plain, 'x'.repeat(MTU - 36 - HEADERS)));
    t.match(fast.run(large), { verdict: tx }, 'the largest frame for its socket can be carried');
    const merged = build(segment(plain, 'x'.repeat(MTU - CARRY - HEADERS + 1)));
    t.match(fast.run(merged), { verdict: pass, counters: ['to_engine_uncut'] });
    const part = unfinished(segment(plain, 'text'));
    const outcome = fast.run(part);
    t.match(outcome, { verdict: redirect, counters: ['to_engine_carry'] });
    t.strictSame([...outcome.frame], [...part], 'unchanged');
  });

  t.test('what is wrapped is carried too', async (t) => {
    const frames = [false, true].map((isRouted) => {
      const fast = isRouted ? routed() : new Fast();
      fast.engine(true);
      const twin = new Twin(SERVER_ISN);
      const { slot, seq, ack } = twin.handing();
      const there = twin.mirror(fast, slot, SessionAction.wrap);
      const outcome = fast.run(segment({ flags: 'PA', seq, ack }, 'text'));
      t.match(outcome, { verdict: tx, counters: isRouted ? ['wrapped', 'carried'] : ['wrapped'] });
      const nonce = fast.tables[0]!.nonce(there);
      fast.close();
      return { frame: outcome.frame, nonce };
    });
    const [link, router] = frames;
    t.strictSame(
      [...(router?.frame.subarray(0, ETHERNET + CARRY) ?? [])],
      [...carried(link!.frame, router!.nonce).subarray(0, ETHERNET + CARRY)],
    );
    t.equal(router?.frame.length, (link?.frame.length ?? 0) + CARRY);
    t.equal(
      new DataView(Uint8Array.from(router!.frame).buffer).getUint32(ETHERNET + 16),
      addressNumber(NODE.address),
    );
  });
}
