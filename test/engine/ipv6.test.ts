/** Sessions of IPv6 clients: handshake, handoff, forwarding, ICMPv6 errors, and bad packets. */
import t, { type Test } from 'tap';
import { addressNumber, macBytes, type TcpSpec } from '../../lab/packet.js';
import { build6, bytes6, type Packet6Spec } from '../../lab/packet6.js';
import { referenceSipHash } from '../../lab/siphash.js';
import { inSlots } from '../../src/engine/farm.js';
import type { EngineOptions } from '../../src/engine/options.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { formatAddress, requireAddress, toAddress6 } from '../../src/wire/address.js';
import { Aliases } from '../../src/wire/alias.js';
import {
  BALANCER,
  CLIENT,
  Conversation,
  get,
  KEY,
  NODES,
  notice,
} from '../support/conversation.js';

const CLIENT_6 = 'fd01::1';
const VIRTUAL_6 = 'fd09::100';
const ALIASES = new Aliases(KEY);
const SERVER_6 = { address: requireAddress(VIRTUAL_6), port: 80 };
const ISN = 5000;
const IP = 14;
const IP_BYTES = 40;
const TCP_AT = IP + IP_BYTES;

const fromClient = (tcp: TcpSpec, payload = '', more: Partial<Packet6Spec> = {}): Uint8Array =>
  build6({
    ethernet: { source: CLIENT.mac, destination: BALANCER.mac },
    source: CLIENT_6,
    destination: VIRTUAL_6,
    tcp: { sourcePort: CLIENT.port, destinationPort: 80, ...tcp },
    payload,
    ...more,
  });

/** A conversation whose virtual server in slot 0 has an IPv6 address, and its sent frames. */
class Talk {
  readonly talk: Conversation;

  constructor(t: Test, engine: Partial<EngineOptions> = {}) {
    this.talk = new Conversation(t, {
      engine: { virtualServers: inSlots([SERVER_6]), ...engine },
    });
  }

  /** What the engine sends in answer to a frame. */
  send(frame: Uint8Array): Uint8Array[] {
    const { engine, datapath } = this.talk;
    const offset = datapath.place(frame, 0);
    engine.receive(offset, frame.length, 0, 0);
    const sent = datapath.take().map(({ frame: bytes }) => bytes);
    datapath.flush();
    return sent;
  }

  open(): void {
    this.send(fromClient({ flags: 'S', seq: 1000, options: { mss: 1440 } }));
    this.send(fromClient({ flags: 'A', seq: 1001, ack: ISN + 1 }));
  }

  /** Hands a session over to node 0. Returns the frame to the node. */
  handOver(): Uint8Array {
    this.open();
    const [adopt] = this.send(fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, get('/0')));
    if (adopt === undefined) throw new Error('nothing was handed over');
    return adopt;
  }

  pass(): void {
    this.handOver();
    const ack = 1001 + get('/0').length;
    this.talk.send(0, adopted(ack));
  }
}

/** A notice names IPv6 addresses by their aliases. */
const adopted = (ack: number) =>
  notice(0, 1, {
    client: dotted(ALIASES.of(requireAddress(CLIENT_6) as never)),
    virtualAddress: dotted(ALIASES.of(SERVER_6.address as never)),
    seq: ISN + 1,
    ack,
  });

function dotted(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join('.');
}

function addresses(frame: Uint8Array): [string, string] {
  const view = new DataView(frame.buffer, frame.byteOffset);
  const at = (offset: number): string =>
    formatAddress(toAddress6([0, 4, 8, 12].map((word) => view.getUint32(offset + word))));
  return [at(IP + 8), at(IP + 24)];
}

t.test('a SYN is answered over IPv6, with room for IXP', async (t) => {
  const talk = new Talk(t);
  const [answer, ...others] = talk.send(
    fromClient({ flags: 'S', seq: 1000, options: { mss: 1440 } }),
  );
  t.equal(others.length, 0);
  const expected = build6({
    ethernet: { source: BALANCER.mac, destination: CLIENT.mac },
    source: VIRTUAL_6,
    destination: CLIENT_6,
    tcp: {
      sourcePort: 80,
      destinationPort: CLIENT.port,
      flags: 'SA',
      seq: ISN,
      ack: 1001,
      window: 20_480,
      options: { mss: 1500 - 40 - 20 - 36 },
    },
  });
  t.same(answer, expected);
  t.equal(formatAddress(talk.talk.engine.sessions.clientAddress(0)), CLIENT_6);
});

t.test('a request is handed over, and then forwarded with new MAC addresses', async (t) => {
  const talk = new Talk(t);
  const adopt = talk.handOver();
  t.same(
    adopt.subarray(0, 12),
    Uint8Array.of(...macBytes(NODES[0]!.mac), ...macBytes(BALANCER.mac)),
  );
  t.same(addresses(adopt), [CLIENT_6, VIRTUAL_6]);
  t.equal(adopt[IP + 6], 253);
  const view = new DataView(adopt.buffer, adopt.byteOffset);
  t.equal(view.getUint16(IP + 4), adopt.length - TCP_AT);
  const covered = Uint8Array.of(
    ...adopt.subarray(IP + 8, TCP_AT),
    ...adopt.subarray(TCP_AT + 36, TCP_AT + 48),
    ...adopt.subarray(TCP_AT, TCP_AT + 28),
  );
  t.equal(view.getBigUint64(TCP_AT + 28), referenceSipHash(KEY, covered), 'the tag');
  t.equal(view.getUint32(TCP_AT + 8), addressNumber(BALANCER.address));
  // Without IXP it is the client's segment, with a right checksum.
  const inner = adopt.slice(TCP_AT + 36);
  const plain = fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, get('/0'));
  t.same(inner, plain.slice(TCP_AT));

  const ack = 1001 + get('/0').length;
  talk.talk.send(0, adopted(ack));
  t.equal(talk.talk.engine.sessions.state(0), SessionState.passing, 'the notice counts');
  const later = fromClient({ flags: 'A', seq: ack, ack: ISN + 500 });
  const [forwarded] = talk.send(later);
  t.same(forwarded?.slice(12), later.slice(12));
  t.same(forwarded?.slice(0, 6), macBytes(NODES[0]!.mac));
});

t.test('"packet too big" goes to the node of the session', async (t) => {
  const talk = new Talk(t);
  talk.pass();
  const quoted = build6({
    source: VIRTUAL_6,
    destination: CLIENT_6,
    tcp: { sourcePort: 80, destinationPort: CLIENT.port, flags: 'A' },
    payload: 'x'.repeat(900),
  }).slice(14);
  const error = (bytes: Uint8Array, more: Partial<Packet6Spec> = {}): Uint8Array =>
    build6({
      ethernet: { source: CLIENT.mac, destination: BALANCER.mac },
      source: 'fd01::fe',
      destination: VIRTUAL_6,
      icmp: { type: 2, rest: 1280, quoted: bytes },
      ...more,
    });
  for (const length of [48, 60, 900]) {
    const frame = error(quoted.slice(0, length));
    const [forwarded] = talk.send(frame);
    t.same(forwarded?.slice(12), frame.slice(12), `${length} bytes quoted`);
  }
  const wrong = error(quoted.slice(0, 60));
  wrong[60]! ^= 1;
  const stranger = quoted.slice(0, 60);
  stranger[39] = 9;
  for (const frame of [
    wrong,
    error(stranger),
    error(quoted.slice(0, 47)),
    error(new Uint8Array(0)),
    error(quoted.slice(0, 60), { icmp: { type: 128, quoted: quoted.slice(0, 60) } }),
  ])
    t.same(talk.send(frame), []);
  talk.talk.counted({ icmp_forwarded: 3, drop_malformed_icmp: 5 });
});

t.test('bad packets are counters', async (t) => {
  const talk = new Talk(t);
  const syn: TcpSpec = { flags: 'S', seq: 1000 };
  const cases: [string, Uint8Array][] = [
    ['drop_malformed_ipv6', fromClient(syn, '', { version: 5 })],
    ['drop_malformed_ipv6', fromClient(syn, '', { payloadLength: 21 })],
    ['drop_malformed_ipv6', fromClient(syn).slice(0, 50)],
    ['drop_malformed_tcp', fromClient(syn, '', { payloadLength: 19 })],
    ['drop_malformed_tcp', fromClient({ ...syn, words: 4 })],
    ['drop_tcp_checksum', fromClient({ ...syn, checksum: 1 })],
    ['drop_not_ours', fromClient(syn, '', { destination: 'fd09::101' })],
    ...[0, 43, 44, 60, 135].map((extension): [string, Uint8Array] => [
      'drop_ipv6_extension',
      fromClient(syn, '', { extension }),
    ]),
  ];
  const wanted = new Map<string, number>();
  for (const [name, frame] of cases) {
    wanted.set(name, (wanted.get(name) ?? 0) + 1);
    t.same(talk.send(frame), [], name);
  }
  talk.talk.counted(Object.fromEntries(wanted));
  t.equal(talk.talk.engine.sessions.size, 0);
});

t.test('an alias stands for one client at a time', async (t) => {
  const talk = new Talk(t);
  talk.open();
  // As if another address had the same alias.
  talk.talk.engine.sessions.clients.words.set([1, 2, 3, 4]);
  t.same(talk.send(fromClient({ flags: 'A', seq: 1001, ack: ISN + 1 })), []);
  t.same(talk.send(fromClient({ flags: 'S', seq: 9000 })), []);
  talk.talk.counted({ drop_alias_in_use: 2 });
});

t.test('beyond the limit, SYNs get cookies over IPv6', async (t) => {
  const talk = new Talk(t, {
    initialSequence: () => -1,
    limits: {
      sessions: 8,
      halfOpen: 0,
      headBytes: 4096,
      heads: 4,
      handoffTries: 2,
      synAckTries: 5,
    },
  });
  const [answer] = talk.send(fromClient({ flags: 'S', seq: 1000, options: { mss: 1440 } }));
  if (answer === undefined) throw new Error('no SYN/ACK');
  t.same(addresses(answer), [VIRTUAL_6, CLIENT_6]);
  t.equal(talk.talk.engine.sessions.size, 0);
  const isn = new DataView(answer.buffer, answer.byteOffset).getUint32(TCP_AT + 4);
  const request = { flags: 'PA', seq: 1001, ack: isn + 1 };
  const [adopt] = talk.send(fromClient(request, get('/0')));
  t.same(adopt?.subarray(IP + 8, IP + 24), bytes6(CLIENT_6), 'the request opens the session');
  talk.talk.counted({ syn_cookie: 1, cookie_accepted: 1, handoffs: 1 });
});
