/** IPv6 frames at the guard and the XDP program, frame by frame (BPF_PROG_TEST_RUN). */
import { join } from 'node:path';
import t from 'tap';
import { macBytes, type TcpSpec } from '../../lab/packet.js';
import { build6, bytes6, type Packet6Spec } from '../../lab/packet6.js';
import { GUARD_NAMES } from '../../src/base/kernel-counters.js';
import { CONTROL } from '../../src/datapath/xdp-layout.js';
import {
  SessionAction,
  sessionHash,
  sessionWorker,
} from '../../src/engine/table/session-record.js';
import { hostU32 } from '../../src/host/bpf-object.js';
import { native } from '../../src/host/native.js';
import { Aliases, aliasKey } from '../../src/wire/alias.js';
import { insideNamespace } from './namespace.js';
import {
  counted,
  join8,
  portBytes,
  project,
  KEY as SHIM_KEY,
  Shim,
  sessionValue,
} from './shim-fixture.js';
import { Fast } from './xdp-fixture.js';
import {
  BALANCER,
  CLIENT,
  CLIENT_ISN,
  KEY,
  NODE,
  SEEDS,
  SERVER_ISN,
  Verdict,
} from './xdp-packets.js';

const CLIENT_6 = 'fd78::1';
const VIRTUAL_6 = 'fd78::100';
const PORT = 80;
const SLOT = 1;
const FAMILY_IPV6 = 6;
const ALIASES = new Aliases(KEY);
const TcVerdict = { unspec: -1, drop: 2 } as const;
const HERE = { destination: '00:00:00:00:00:00' };

const aliasOf = (text: string): number => {
  const bytes = bytes6(text);
  return ALIASES.at(new DataView(bytes.buffer), 0);
};
const bigEndian = (number: number): Uint8Array =>
  Uint8Array.of(number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255);
const serverKey = join8(
  bigEndian(aliasOf(VIRTUAL_6)),
  portBytes(PORT),
  Uint8Array.of(FAMILY_IPV6, 0),
);

/** The balancer's own address. */
const OWN_6 = 'fd78::2';
const segment = (tcp: TcpSpec, payload = '', more: Partial<Packet6Spec> = {}): Packet6Spec => ({
  ethernet: { source: CLIENT.mac, destination: BALANCER.mac },
  source: CLIENT_6,
  destination: VIRTUAL_6,
  tcp: { sourcePort: CLIENT.port, destinationPort: PORT, ...tcp },
  payload,
  ...more,
});
const notice = (destination: string): Packet6Spec => ({
  source: 'fd78::9',
  destination,
  nextHeader: 254,
  raw: new Uint8Array(40),
});
const error = (type: number, more: Partial<Packet6Spec> = {}): Packet6Spec => ({
  ethernet: { source: CLIENT.mac, destination: BALANCER.mac },
  source: 'fd78::fe',
  destination: VIRTUAL_6,
  icmp: {
    type,
    quoted: build6({
      source: VIRTUAL_6,
      destination: CLIENT_6,
      tcp: { sourcePort: PORT, destinationPort: CLIENT.port, flags: 'A' },
    }).slice(14),
  },
  ...more,
});

if (insideNamespace(import.meta.url)) {
  t.test('the guard keeps what is for a virtual server, and nothing else', async (t) => {
    const guard = native().loadBpf(join(project, 'build', 'bpf', 'guard.bpf.o'));
    t.teardown(() => guard.close());
    guard.mapUpdate('ipv6_aliases', bytes6(VIRTUAL_6), bigEndian(aliasOf(VIRTUAL_6)));
    guard.mapUpdate('virtual_servers', serverKey, hostU32(SLOT));
    guard.mapUpdate('own', hostU32(0), join8(new Uint8Array(4), bytes6(OWN_6)));
    const workers = 3;
    guard.mapUpdate(
      'sharing',
      hostU32(0),
      join8(...[SEEDS.client, SEEDS.port, workers, ...aliasKey(KEY)].map(hostU32)),
    );
    const syn: TcpSpec = { flags: 'S' };
    const cases: [string, Packet6Spec, boolean, number][] = [
      ['a SYN', segment(syn), true, TcVerdict.drop],
      ['another port', segment({ ...syn, destinationPort: 81 }), false, TcVerdict.unspec],
      ['another address', segment(syn, '', { destination: 'fd78::101' }), false, TcVerdict.unspec],
      ['UDP', segment(syn, '', { nextHeader: 17 }), false, TcVerdict.unspec],
      ['cut in the ports', segment(syn, '', { raw: new Uint8Array(2) }), true, TcVerdict.drop],
      ...[0, 43, 44, 51, 60, 135].map((extension): [string, Packet6Spec, boolean, number] => [
        `extension header ${extension}`,
        segment(syn, '', { extension }),
        true,
        TcVerdict.drop,
      ]),
      ['packet too big', error(2), true, TcVerdict.unspec],
      ['an echo request', error(128), false, TcVerdict.unspec],
      ['a neighbour solicitation', error(135), false, TcVerdict.unspec],
      [
        'an error for another address',
        error(2, { destination: CLIENT_6 }),
        false,
        TcVerdict.unspec,
      ],
      ['a notice', notice(OWN_6), true, TcVerdict.drop],
      ['a notice to another machine', notice('fd78::3'), false, TcVerdict.unspec],
      ['IXP from the wire', segment(syn, '', { nextHeader: 253 }), false, TcVerdict.drop],
    ];
    for (const [what, spec, given, verdict] of cases) {
      const frame = build6({ ...spec, ethernet: HERE });
      t.equal(guard.testRun('guard_filter', frame).verdict > 0, given, what);
      let result = 0;
      counted(
        guard,
        GUARD_NAMES.map((name) => name),
        () => {
          result = guard.testRun('guard_ingress', frame).verdict;
        },
      );
      t.equal(result, verdict, `${what} at ingress`);
    }
    for (let port = 20_000; port < 20_032; port++) {
      const key = ((port << 16) | SLOT) >>> 0;
      const hash = sessionHash(aliasOf(CLIENT_6), key, SEEDS.client, SEEDS.port);
      const owner = sessionWorker(hash, workers);
      const own = build6(segment({ ...syn, sourcePort: port }));
      t.equal(guard.testRun('guard_fanout', own).verdict, owner, `port ${port}`);
    }
  });

  t.test('the XDP program forwards sessions of IPv6 clients', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const { object, control } = fast;
    object.mapUpdate('ipv6_aliases', bytes6(VIRTUAL_6), bigEndian(aliasOf(VIRTUAL_6)));
    object.mapUpdate('virtual_servers', serverKey, hostU32(SLOT));
    aliasKey(KEY).forEach((word, index) => {
      control.setUint32(CONTROL.alias + index * 4, word, true);
    });
    const first = (CLIENT_ISN + 1) >>> 0;
    const plain = { flags: 'A', seq: first, ack: SERVER_ISN + 1 };
    const run = (spec: Packet6Spec) => fast.run(build6(spec));
    t.equal(run(segment(plain)).verdict, Verdict.pass, 'without a virtual server of IPv6');
    control.setUint32(CONTROL.ipv6, 1, true);
    fast.engine(true);

    const table = fast.tables[0]!;
    const slot = fast.insert(aliasOf(CLIENT_6), ((CLIENT.port << 16) | SLOT) >>> 0);
    table.setClientIsn(slot, CLIENT_ISN);
    table.setReceiveNext(slot, first);
    table.setClientAck(slot, SERVER_ISN + 1);
    fast.setAction(slot, SessionAction.forward);
    const addresses = new DataView(object.mapMemory('session_addresses'));
    const client = new DataView(bytes6(CLIENT_6).buffer);
    for (let at = 0; at < 16; at += 4) addresses.setUint32(at, client.getUint32(at), true);
    t.equal(slot, 0);

    const frame = build6(segment({ ...plain, options: { timestamps: [7, 8] } }, 'x'.repeat(900)));
    const outcome = fast.run(frame);
    t.match(outcome, { verdict: Verdict.tx, counters: ['forwarded'] });
    const onward = frame.slice();
    onward.set(macBytes(NODE.mac), 0);
    onward.set(macBytes(BALANCER.mac), 6);
    t.same(outcome.frame, onward);
    t.equal(table.packets(slot), 1);
    t.equal(table.receiveNext(slot), (first + 900) >>> 0);

    const engine = Verdict.redirect;
    for (const [what, spec, verdict, counter] of [
      ['a FIN', segment({ ...plain, flags: 'FA' }), engine, 'to_engine_fin'],
      ['an RST', segment({ ...plain, flags: 'R' }), engine, 'to_engine_rst'],
      ['a SYN', segment({ flags: 'S', sourcePort: 9 }), engine, 'to_engine_syn'],
      ['no session', segment({ ...plain, sourcePort: 9 }), engine, 'to_engine_unknown'],
      ['an extension header', segment(plain, '', { extension: 60 }), engine, 'to_engine_odd'],
      ['a wrong length', segment(plain, '', { payloadLength: 99 }), engine, 'to_engine_odd'],
      ['packet too big', error(2), engine, 'to_engine_icmp'],
      ['an echo request', error(128), Verdict.pass, undefined],
      ['another port', segment({ ...plain, destinationPort: 81 }), Verdict.pass, undefined],
      ['another address', segment(plain, '', { destination: CLIENT_6 }), Verdict.pass, undefined],
    ] as const) {
      const { verdict: got, counters } = run(spec);
      t.equal(got, verdict, what);
      t.same(counters, counter === undefined ? [] : [counter], what);
    }
    addresses.setUint32(12, 99, true);
    t.match(
      run(segment(plain)),
      { verdict: engine, counters: ['to_engine_state'] },
      'another client',
    );
  });

  t.test('an ICMPv6 error reaches a translated socket with its own numbers', async (t) => {
    const shim = new Shim();
    t.teardown(() => shim.object.close());
    const aliases = new Aliases(SHIM_KEY);
    const number = (text: string): Uint8Array =>
      bigEndian(aliases.at(new DataView(bytes6(text).buffer), 0));
    const key = join8(number(CLIENT_6), number(VIRTUAL_6), portBytes(CLIENT.port), portBytes(PORT));
    const value = sessionValue({ translation: { sent: 1000, received: 5 } });
    shim.object.mapUpdate('sessions', key, value);
    const tooBig = (seq: number, more: Partial<Packet6Spec> = {}): Uint8Array =>
      build6({
        ethernet: HERE,
        source: 'fd78::fe',
        destination: VIRTUAL_6,
        icmp: {
          type: 2,
          rest: 1280,
          quoted: build6({
            source: VIRTUAL_6,
            destination: CLIENT_6,
            tcp: { sourcePort: PORT, destinationPort: CLIENT.port, flags: 'A', seq, checksum: 1 },
            ...more,
          }).slice(14),
        },
      });
    const through = (frame: Uint8Array): Uint8Array => {
      const result = shim.object.testRun('shim_ingress', frame);
      t.equal(result.verdict, 0);
      return result.frame;
    };
    const stream = tooBig(70_000);
    t.same(through(stream), stream, 'no session is translated');
    shim.watch();
    t.same(through(stream), tooBig(69_000), 'with a right checksum');
    for (const [what, frame] of [
      ['another client', tooBig(70_000, { destination: 'fd78::2' })],
      ['another protocol', tooBig(70_000, { nextHeader: 17 })],
      ['cut', stream.slice(0, 100)],
    ] as const)
      t.same(through(frame), frame, what);
  });
}
