import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import type { RawSocket } from '../../src/host/native.js';
import { Reporter } from '../../src/node/reporter.js';
import { type Address, formatAddress, ipv4Number } from '../../src/wire/address.js';
import {
  emitIxcp,
  hashIxcp,
  IXCP,
  IXCP_HEADER_BYTES,
  IxcpFlag,
  IxcpType,
} from '../../src/wire/ixcp.js';
import { SipHash } from '../../src/wire/siphash.js';

const KEY = Uint8Array.from({ length: 16 }, (_, index) => index);
const OTHER_KEY = new Uint8Array(16);
const OWN = addressNumber('10.99.0.3');
const BALANCER = addressNumber('10.99.0.2');
const VIRTUAL = addressNumber('10.99.0.100');
const SECOND = addressNumber('10.99.0.9');

class FakeSocket implements RawSocket {
  readonly sent: { destination: Address; payload: Uint8Array }[] = [];
  closed = false;
  deliver: (source: Address, payload: Uint8Array) => void = () => {};
  fails: Error | undefined;
  send(destination: Address, payload: Uint8Array): void {
    if (this.fails !== undefined) throw this.fails;
    this.sent.push({ destination, payload: payload.slice() });
  }
  start(onDatagram: (source: Address, payload: Uint8Array) => void): void {
    this.deliver = onDatagram;
  }
  close(): void {
    this.closed = true;
  }
}

const viewOf = (payload: Uint8Array): DataView =>
  new DataView(payload.buffer, payload.byteOffset, payload.byteLength);

/** The answer of a balancer to the socket's report, whose session number it repeats. */
function notice(to: FakeSocket, type: number, source = BALANCER, key = KEY): Uint8Array {
  const payload = new Uint8Array(IXCP_HEADER_BYTES);
  const report = to.sent[0]?.payload ?? new Uint8Array(IXCP_HEADER_BYTES);
  const session = viewOf(report).getUint32(IXCP.session);
  emitIxcp(viewOf(payload), 0, source, OWN, { type, session }, new SipHash(key));
  return payload;
}

function start(balancers = [BALANCER], addresses = [VIRTUAL]) {
  const socket = new FakeSocket();
  const messages: string[] = [];
  const reporter = new Reporter({
    own: { ipv4: OWN, ipv6: undefined },
    key: KEY,
    balancers,
    look: () => ({ flags: IxcpFlag.canAdopt, addresses }),
    log: {
      warn: (text) => messages.push(`warn ${text}`),
      info: (text) => messages.push(`info ${text}`),
    },
    openRawSocket: (protocol) => {
      if (protocol !== 254) throw new Error(`protocol ${protocol}`);
      return socket;
    },
  });
  reporter.start();
  t.teardown(() => reporter.close());
  return { socket, reporter, messages };
}

t.test('each balancer gets a report with a tag for it', async (t) => {
  const { socket, reporter } = start([BALANCER, SECOND]);
  t.same(
    socket.sent.map((entry) => entry.destination),
    [BALANCER, SECOND],
  );
  const before = Math.floor(Date.now() / 1_000);
  for (const { destination, payload } of socket.sent) {
    const view = viewOf(payload);
    const hash = new SipHash(KEY);
    hashIxcp(view, OWN, ipv4Number(destination), 0, hash);
    t.equal(view.getUint32(IXCP.tag), hash.high);
    t.equal(view.getUint32(IXCP.tag + 4), hash.low);
    t.equal(view.getUint8(IXCP.type), IxcpType.report);
    t.equal(
      view.getUint16(IXCP.flags),
      IxcpFlag.canAdopt |
        IxcpFlag.namesAddresses |
        IxcpFlag.canRelease |
        IxcpFlag.canReplay |
        IxcpFlag.canOwn,
    );
    t.ok(Math.abs(view.getUint32(IXCP.sequence) - before) <= 1);
  }
  reporter.leave();
  const last = viewOf(socket.sent[3]?.payload ?? new Uint8Array(IXCP_HEADER_BYTES));
  const first = viewOf(socket.sent[1]?.payload ?? new Uint8Array(IXCP_HEADER_BYTES));
  const leaving =
    IxcpFlag.canAdopt |
    IxcpFlag.namesAddresses |
    IxcpFlag.canRelease |
    IxcpFlag.canReplay |
    IxcpFlag.canOwn |
    IxcpFlag.leaving;
  t.equal(last.getUint16(IXCP.flags), leaving);
  t.equal(last.getUint32(IXCP.session), first.getUint32(IXCP.session), 'one run, one nonce');
  t.ok(last.getUint32(IXCP.sequence) > first.getUint32(IXCP.sequence), 'the clock always grows');
  reporter.close();
  t.ok(socket.closed);
});

t.test('runs have different nonces', async (t) => {
  const nonces = new Set(
    Array.from({ length: 4 }, () =>
      viewOf(start().socket.sent[0]?.payload ?? new Uint8Array(40)).getUint32(IXCP.session),
    ),
  );
  t.equal(nonces.size, 4);
});

t.test('a welcome is logged once', async (t) => {
  const { socket, reporter, messages } = start();
  socket.deliver(BALANCER, notice(socket, IxcpType.welcome));
  socket.deliver(BALANCER, notice(socket, IxcpType.welcome));
  t.same(await reporter.firstAnswer, { balancer: BALANCER, badKey: false });
  t.same(messages, [`info balancer ${formatAddress(BALANCER)} receives the reports of this node`]);
  socket.deliver(BALANCER, notice(socket, IxcpType.badKey, BALANCER, OTHER_KEY));
  t.equal(messages.length, 1, 'a later badKey notice is ignored');
});

t.test('a balancer with another key is logged once', async (t) => {
  const { socket, reporter, messages } = start();
  socket.deliver(BALANCER, notice(socket, IxcpType.badKey, BALANCER, OTHER_KEY));
  socket.deliver(BALANCER, notice(socket, IxcpType.badKey, BALANCER, OTHER_KEY));
  t.same(await reporter.firstAnswer, { balancer: BALANCER, badKey: true });
  t.same(messages, [`warn balancer ${formatAddress(BALANCER)} reports that it has another key`]);
});

t.test('an answer with another session number is ignored', async (t) => {
  const { socket, reporter, messages } = start();
  for (const [type, key] of [
    [IxcpType.badKey, OTHER_KEY],
    [IxcpType.welcome, KEY],
  ] as const) {
    const payload = notice(socket, type, BALANCER, key);
    const session = viewOf(payload).getUint32(IXCP.session) ^ 1;
    emitIxcp(viewOf(payload), 0, BALANCER, OWN, { type, session }, new SipHash(key));
    socket.deliver(BALANCER, payload);
  }
  t.equal(await Promise.race([reporter.firstAnswer, Promise.resolve('none')]), 'none');
  t.same(messages, []);
});

t.test('invalid answers are ignored', async (t) => {
  const { socket, reporter, messages } = start();
  const good = notice(socket, IxcpType.welcome);
  socket.deliver(SECOND, notice(socket, IxcpType.welcome, SECOND));
  socket.deliver(BALANCER, notice(socket, IxcpType.welcome, BALANCER, OTHER_KEY));
  socket.deliver(BALANCER, notice(socket, IxcpType.welcome, SECOND));
  socket.deliver(BALANCER, notice(socket, IxcpType.adopted));
  for (let length = 0; length < IXCP_HEADER_BYTES; length++)
    socket.deliver(BALANCER, good.slice(0, length));
  for (let at = 0; at < IXCP_HEADER_BYTES; at++) {
    // The tag does not cover the hole, and no code reads it.
    if (at === IXCP.hole || at === IXCP.hole + 1 || at === IXCP.type) continue;
    const flipped = good.slice();
    flipped[at]! ^= 0x10;
    socket.deliver(BALANCER, flipped);
  }
  const answer = await Promise.race([reporter.firstAnswer, Promise.resolve('none')]);
  t.equal(answer, 'none');
  t.same(messages, []);
});

t.test('a failure to send is logged once, until a send succeeds', async (t) => {
  const { socket, reporter, messages } = start();
  socket.fails = new Error('ENETUNREACH');
  reporter.leave();
  reporter.leave();
  t.same(messages, [`warn cannot reach balancer ${formatAddress(BALANCER)}: ENETUNREACH`]);
  socket.fails = undefined;
  reporter.leave();
  socket.fails = new Error('ENETDOWN');
  reporter.leave();
  t.equal(messages.length, 2);
});

t.test(
  'there is a report for each virtual address, and all of one second have one clock',
  async (t) => {
    const addresses = ['10.99.0.100', '10.99.0.101', '10.99.0.102'].map(addressNumber);
    const { socket } = start([BALANCER], addresses);
    const views = socket.sent.map(({ payload }) => viewOf(payload));
    t.same(
      views.map((view) => view.getUint32(IXCP.virtualAddress)),
      addresses,
    );
    t.ok(views.every((view) => view.getUint16(IXCP.clientPort) === 3));
    t.equal(new Set(views.map((view) => view.getUint32(IXCP.sequence))).size, 1);
    t.ok(views.every((view) => (view.getUint16(IXCP.flags) & IxcpFlag.namesAddresses) !== 0));
    const none = start([BALANCER], []).socket.sent.map(({ payload }) => viewOf(payload));
    t.equal(none.length, 1);
    t.same([none[0]?.getUint16(IXCP.clientPort), none[0]?.getUint32(IXCP.virtualAddress)], [0, 0]);
  },
);
