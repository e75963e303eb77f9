/**
 * The guard, frame by frame (BPF_PROG_TEST_RUN): which frames the engine's tap gets, and which the
 * kernel keeps.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { build, type PacketSpec } from '../../lab/packet.js';
import { build6, bytes6 } from '../../lab/packet6.js';
import { GUARD_NAMES } from '../../src/base/kernel-counters.js';
import { hostU32 } from '../../src/host/bpf-object.js';
import { native } from '../../src/host/native.js';
import { insideNamespace } from './namespace.js';
import {
  addressBytes,
  BALANCER,
  CLIENT,
  counted,
  handoff,
  join8,
  Mark,
  notice,
  portBytes,
  project,
  VIRTUAL,
} from './shim-fixture.js';

const Verdict = { unspec: -1, drop: 2, redirect: 7 } as const;
/** The device of a test run is lo: frames to its MAC address are for this machine. */
const HERE = { destination: '00:00:00:00:00:00' };
const ELSEWHERE = { destination: '02:00:00:00:00:77' };
const PORT = 80;
const ADDRESSES_6 = { source: 'fd78::1', destination: 'fd78::100' };

const to = (ip: PacketSpec['ip'], more: PacketSpec = {}): PacketSpec => ({
  ethernet: HERE,
  ip: { source: CLIENT, destination: VIRTUAL, ...ip },
  tcp: { sourcePort: 40_000, destinationPort: PORT, flags: 'S' },
  ...more,
});
const icmp = (type: number, destination = VIRTUAL): PacketSpec => ({
  ethernet: HERE,
  ip: { source: CLIENT, destination },
  icmp: { type, code: 0, quoted: new Uint8Array(28) },
});
const otherPort = { tcp: { sourcePort: 40_000, destinationPort: PORT + 1, flags: 'S' } };

/** [what, frame, mark, given to the engine, verdict at ingress, counter at ingress] */
const FRAMES: readonly (readonly [string, PacketSpec, number, boolean, number, string[]])[] = [
  ['a SYN to a virtual server', to({}), 0, true, Verdict.drop, ['kept_virtual']],
  [
    'one with IPv4 options',
    to({ options: Uint8Array.of(1, 1, 1, 0) }),
    0,
    true,
    Verdict.drop,
    ['kept_virtual'],
  ],
  ['one with a header length of 4', to({ words: 4 }), 0, true, Verdict.drop, ['kept_virtual']],
  ['a first fragment', to({ moreFragments: true }), 0, true, Verdict.drop, ['kept_virtual']],
  ['a later fragment, which has no port', to({ fragmentOffset: 2 }), 0, true, Verdict.unspec, []],
  ['another port of the virtual address', to({}, otherPort), 0, false, Verdict.unspec, []],
  ['the same port of another address', to({ destination: BALANCER }), 0, false, Verdict.unspec, []],
  ['UDP to the virtual address', to({ protocol: 17 }), 0, false, Verdict.unspec, []],
  ['IPv6', to({}, { ethernet: { ...HERE, type: 0x86dd } }), 0, false, Verdict.unspec, []],
  ['destination unreachable', icmp(3), 0, true, Verdict.unspec, []],
  ['time exceeded', icmp(11), 0, true, Verdict.unspec, []],
  ['parameter problem', icmp(12), 0, true, Verdict.unspec, []],
  ['a ping', icmp(8), 0, false, Verdict.unspec, []],
  ['the answer to one', icmp(0), 0, false, Verdict.unspec, []],
  ['destination unreachable for another address', icmp(3, BALANCER), 0, false, Verdict.unspec, []],
  ['a notice', notice({ ethernet: HERE }), 0, true, Verdict.drop, ['kept_notice']],
  [
    'a notice to another machine',
    notice({ ethernet: HERE, ip: { destination: CLIENT } }),
    0,
    false,
    Verdict.unspec,
    [],
  ],
  ['IXP from the wire', handoff({ ethernet: HERE }), 0, false, Verdict.drop, ['drop_ixp']],
  ['IXP that waited', handoff({ ethernet: HERE }), Mark.retry, false, Verdict.drop, ['drop_ixp']],
  ['a SYN with the mark of another program', to({}), 7, true, Verdict.drop, ['kept_virtual']],
];

if (insideNamespace(import.meta.url)) {
  const guard = native().loadBpf(join(project, 'build', 'bpf', 'guard.bpf.o'));
  t.teardown(() => guard.close());
  guard.mapUpdate('own', hostU32(0), join8(addressBytes(BALANCER), new Uint8Array(16)));
  guard.mapUpdate('virtual_addresses', addressBytes(VIRTUAL), hostU32(1));
  const server = join8(addressBytes(VIRTUAL), portBytes(PORT), Uint8Array.of(0, 0));
  guard.mapUpdate('virtual_servers', server, hostU32(0));

  const check = (program: string, frame: Uint8Array, mark: number) => {
    let result = { verdict: 0, frame, mark };
    const counters = counted(guard, GUARD_NAMES, () => {
      result = guard.testRun(program, frame, { mark });
    });
    return { verdict: result.verdict, mark: result.mark, counters };
  };

  t.test('the counters have the names that the balancer shows', async (t) => {
    const header = readFileSync(join(project, 'bpf', 'lib', 'counters.h'), 'utf8');
    const list = /GUARD_COUNTERS\(X\)(.*?)\n\n/s.exec(header)?.[1] ?? '';
    const names = [...list.matchAll(/X\((\w+),/g)].map(([, name = '']) => name.toLowerCase());
    t.strictSame(names, GUARD_NAMES);
  });

  t.test('the tap', async (t) => {
    for (const [name, spec, mark, given] of FRAMES) {
      const frame = build(spec);
      // Without the Ethernet header: a test run of a socket filter counts from there.
      const { verdict, counters } = check('guard_filter', frame, mark);
      t.equal(verdict, given ? frame.length - 14 : 0, name);
      t.strictSame(counters, given ? ['seen'] : [], `${name}: counters`);
    }
    const overheard = check('guard_filter', build(to({}, { ethernet: ELSEWHERE })), 0);
    t.equal(overheard.verdict, 0, 'a frame for another MAC address');
  });

  t.test("the tap on the nodes' interface: notices only", async (t) => {
    let notices = 0;
    for (const [name, spec, mark] of FRAMES) {
      const frame = build(spec);
      const given = name === 'a notice';
      const { verdict, counters } = check('guard_notices', frame, mark);
      t.equal(verdict, given ? frame.length - 14 : 0, name);
      t.strictSame(counters, given ? ['seen'] : [], `${name}: counters`);
      if (given) notices++;
    }
    t.equal(notices, 1);
    t.equal(
      check('guard_notices', build(notice({ ethernet: ELSEWHERE })), 0).verdict,
      0,
      'a notice for another machine',
    );
  });

  t.test('ingress', async (t) => {
    for (const [name, spec, mark, , verdict, counters] of FRAMES) {
      t.strictSame(check('guard_ingress', build(spec), mark), { verdict, mark, counters }, name);
    }
  });

  t.test('where this machine is a node, its own frames reach the stack', async (t) => {
    const own = { verdict: Verdict.unspec, mark: 0, counters: ['to_own_stack'] };
    const local = build(to({}, { ethernet: ELSEWHERE }));
    const kept = check('guard_ingress', build(to({})), Mark.local);
    t.equal(kept.verdict, Verdict.drop, 'unless it is none');
    t.equal(check('guard_egress', local, 0).verdict, Verdict.unspec, 'nothing is turned round');
    const on = (value: number): void =>
      guard.mapUpdate('local', hostU32(0), Uint8Array.of(2, 0, 0, 0, 0, 0x77, value, 0));
    on(1);
    t.teardown(() => on(0));
    t.strictSame(check('guard_ingress', local, Mark.local), own, 'from the engine');
    t.match(check('guard_ingress', build(handoff()), Mark.retry), { counters: ['to_own_stack'] });
    t.strictSame(check('guard_ingress', build(handoff()), 0).counters, ['drop_ixp'], 'the wire');
    t.equal(check('guard_egress', local, 0).verdict, Verdict.redirect, 'to the node');
    const elsewhere = build(to({}, { ethernet: { destination: '02:00:00:00:00:78' } }));
    t.equal(check('guard_egress', elsewhere, 0).verdict, Verdict.unspec, 'to another machine');
  });

  t.test('pings beyond 1,000 a second do not reach the kernel', async (t) => {
    guard.mapUpdate('ipv6_aliases', bytes6(ADDRESSES_6.destination), hostU32(1));
    const limit = (due: bigint): void => {
      const value = new Uint8Array(16);
      new DataView(value.buffer).setBigUint64(8, due, true);
      guard.mapUpdate('echo_limit', hostU32(0), value);
    };
    const due = (): bigint => {
      const value = guard.mapLookup('echo_limit', hostU32(0))!;
      return new DataView(value.buffer, value.byteOffset).getBigUint64(8, true);
    };
    const ping4 = build(icmp(8));
    const ping6 = build6({ ...ADDRESSES_6, ethernet: HERE, icmp: { type: 128 } });
    const dropped = { verdict: Verdict.drop, mark: 0, counters: ['drop_echo'] };
    const passed = { verdict: Verdict.unspec, mark: 0, counters: [] };
    // A limit that is used up for an hour: no ping of either family passes.
    limit(process.hrtime.bigint() + 3_600_000_000_000n);
    const used = due();
    for (const ping of [ping4, ping6])
      t.strictSame(check('guard_ingress', ping, 0), dropped, 'used up');
    t.equal(due(), used, 'what is dropped uses nothing');
    for (const [name, spec, mark, , verdict, counters] of FRAMES.filter(([n]) => n !== 'a ping'))
      t.strictSame(check('guard_ingress', build(spec), mark), { verdict, mark, counters }, name);
    const elsewhere = build(icmp(8, BALANCER));
    t.strictSame(check('guard_ingress', elsewhere, 0), passed, 'a ping of another address');
    t.strictSame(
      check('guard_filter', ping4, 0),
      { verdict: 0, mark: 0, counters: [] },
      'the tap uses nothing',
    );
    t.equal(due(), used);
    // After a long silence: one second's worth at once, and no more than time has gone by since.
    limit(0n);
    const before = process.hrtime.bigint();
    let answered = 0;
    for (let sent = 0; sent < 3_000; sent++)
      if (guard.testRun('guard_ingress', sent % 2 === 0 ? ping4 : ping6).verdict === Verdict.unspec)
        answered++;
    const ms = Number((process.hrtime.bigint() - before) / 1_000_000n);
    t.ok(answered >= 1_000, `${answered} answered`);
    t.ok(answered <= 1_001 + ms, `${answered} answered in ${ms} ms`);
  });

  t.test('a SYN truncated at any length behind its address never reaches the kernel', async (t) => {
    const whole = build(to({}));
    for (let length = 34; length < whole.length; length++) {
      t.equal(
        check('guard_ingress', whole.subarray(0, length), 0).verdict,
        Verdict.drop,
        `${length} bytes`,
      );
    }
  });
}
