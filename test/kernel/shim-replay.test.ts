/**
 * Replay of the handshake on a real interface, by each build of the shim: this kernel chooses its
 * own numbers, and the client hears those of the stream.
 */
import { once } from 'node:events';
import t from 'tap';
import { build, type PacketSpec, pseudoHeader } from '../../lab/packet.js';
import { insideNamespace, run, until } from './namespace.js';
import { CLIENT_MSS, CLIENT_SCALE, Flag, Replayed } from './replayed.js';
import { Verdict } from './shim-cases.js';
import {
  ACK,
  addressBytes,
  BALANCER,
  CLIENT,
  join8,
  KEY,
  OWN,
  portBytes,
  REQUEST,
  SEQ,
  SHIM_BUILDS,
  sessionTranslation,
  VIRTUAL,
} from './shim-fixture.js';
import { Ixcp, REQUEST_END, ShimNode } from './shim-node.js';

const Reason = { noListener: 1, unable: 2 } as const;
const TCP_AT = 34;
const TCP_CHECKSUM = 16;
const TIMESTAMPS_BYTES = 12;

const plus = (a: number, b: number): number => (a + b) >>> 0;

if (insideNamespace(import.meta.url)) {
  const node = await ShimNode.start(t);
  const { wire } = node;
  const sysctl = (name: string, value: number | string): string =>
    run('sysctl', '-qw', `net.ipv4.${name}=${value}`);
  const offloads = (value: 'on' | 'off'): string =>
    run('ethtool', '-K', 'e0', ...['tx', 'tso', 'gso'].flatMap((feature) => [feature, value]));
  const shown = ({ port }: Replayed): string => run('ss', '-Htin', `dport = ${port}`);

  for (const build of SHIM_BUILDS) {
    t.test(`${build}: a session with each set of options`, async (t) => {
      node.load(build);
      for (const flags of [0, Flag.scale, Flag.sack, Flag.timestamps, Flag.all]) {
        const { replayed, socket, request } = await Replayed.open(node, { flags });
        const { session } = replayed;
        t.equal(request, REQUEST);
        t.strictSame(await session.rest(), [], 'the client does not see the SYN/ACK');

        // What the client sends goes to the socket, also out of order.
        const read: Buffer[] = [];
        socket.on('data', (data: Buffer) => read.push(data));
        const end = plus(REQUEST_END, 6);
        const block = [plus(REQUEST_END, 3), end] as const;
        replayed.say({ seq: block[0], ack: ACK, flags: 'PA' }, 'def');
        const asks = await replayed.hear('a duplicate ACK', { seq: ACK, ack: REQUEST_END });
        t.strictSame(asks.tcp?.options.sack, flags & Flag.sack ? [block] : undefined);
        replayed.say({ seq: REQUEST_END, ack: ACK, flags: 'PA' }, 'abc');
        await replayed.hear('the ACK of both', { seq: ACK, ack: end });
        await until('the server has read it', () => Buffer.concat(read).length === 6);
        t.equal(Buffer.concat(read).toString(), 'abcdef');

        // What the socket sends goes to the client, and both close.
        socket.write('an answer');
        await replayed.hear('the answer', { seq: ACK, ack: end, flags: 'PA' }, 'an answer');
        replayed.say({ seq: end, ack: plus(ACK, 9) });
        const closed = once(socket, 'close');
        socket.end();
        await session.expectNotice(Ixcp.fin, { seq: plus(ACK, 9), ack: end });
        await replayed.hear('its FIN', { seq: plus(ACK, 9), flags: 'FA' });
        replayed.say({ seq: end, ack: plus(ACK, 10), flags: 'FA' });
        await replayed.hear('the ACK of the FIN', { seq: plus(ACK, 10), ack: plus(end, 1) });
        await closed;
        t.strictSame(await session.rest(), [], `flags ${flags}: nothing else`);
      }
    });

    t.test(`${build}: the client says by SACK what it has`, async (t) => {
      node.load(build);
      offloads('off');
      t.teardown(() => offloads('on'));
      for (const flags of [Flag.sack, Flag.all]) {
        const { replayed, socket } = await Replayed.open(node, { flags });
        const bytes = CLIENT_MSS - (flags & Flag.timestamps ? TIMESTAMPS_BYTES : 0);
        const pieces = Array.from({ length: 5 }, (_, index) => `${index}`.repeat(bytes));
        const from = (index: number): number => plus(ACK, index * bytes);
        socket.write(pieces.join(''));
        for (const [index, payload] of pieces.entries()) {
          const heard = await replayed.hear(`piece ${index}`, { seq: from(index) }, payload);
          t.strictSame(heard.problems, [], 'without offloads the checksum is finished');
        }
        for (const last of [3, 4, 5])
          replayed.say({ seq: REQUEST_END, ack: ACK }, '', [[from(1), from(last)]]);
        await replayed.hear('the lost piece', { seq: ACK }, pieces[0]);
        const knows = (): boolean => /sacked:4\b/.test(shown(replayed));
        await until('the kernel knows what the client has', knows);
        replayed.say({ seq: REQUEST_END, ack: from(5) });
        const again = await replayed.session.rest();
        // The last piece may come twice, as a probe: RFC 8985 section 7.
        const known = (text: string): boolean =>
          [1, 2, 3].some((index) => text.includes(`seq=${from(index)} `));
        t.strictSame(again.filter(known), [], 'nothing that the client has is sent again');
        socket.destroy();
      }
    });

    t.test(`${build}: large segments, with checksums left to the device`, async (t) => {
      node.load(build);
      const { replayed, socket } = await Replayed.open(node);
      const length = 10_000;
      socket.write('x'.repeat(length));
      let largest = 0;
      for (let at = 0; at < length; ) {
        const { frame, payload } = await replayed.hear('a part', { seq: plus(ACK, at) });
        const tcp = frame.subarray(TCP_AT);
        const sum = (tcp[TCP_CHECKSUM]! << 8) | tcp[TCP_CHECKSUM + 1]!;
        const begun = pseudoHeader(frame, 14, 6, tcp.length);
        t.equal(sum, begun, 'addresses and length are summed, for the device to go on');
        at += payload.length;
        largest = Math.max(largest, payload.length);
      }
      t.ok(largest > CLIENT_MSS, `${largest} bytes in one frame, which the device cuts`);
      socket.destroy();
    });

    t.test(`${build}: a listener that does not accept what was promised`, async (t) => {
      node.load(build);
      t.teardown(() => {
        for (const name of ['timestamps', 'window_scaling', 'sack']) sysctl(`tcp_${name}`, 1);
      });
      for (const name of ['timestamps', 'window_scaling']) {
        sysctl(`tcp_${name}`, 0);
        const replayed = new Replayed(node);
        const { session } = replayed;
        wire.send(replayed.syn());
        await session.expectNotice(Ixcp.refused, { reason: Reason.unable });
        t.strictSame(await session.rest(), [], `${name}: the client hears nothing`);
        sysctl(`tcp_${name}`, 1);
      }
      sysctl('tcp_sack', 0);
      const { replayed, socket } = await Replayed.open(node);
      replayed.say({ seq: plus(REQUEST_END, 3), ack: ACK, flags: 'PA' }, 'def');
      const heard = await replayed.hear('a duplicate ACK', { ack: REQUEST_END });
      t.equal(heard.tcp?.options.sack, undefined, 'it goes on without SACK');
      socket.destroy();
    });
  }

  t.test('windows are those of the socket, whatever shift was promised', async (t) => {
    node.load('shim-old');
    let own = 0;
    const windowOf = async (promised: number): Promise<number> => {
      const { replayed, socket } = await Replayed.open(node, { promised });
      socket.write('x');
      const { tcp } = await replayed.hear('a segment', { seq: ACK, flags: 'PA' }, 'x');
      const [, client, listener] = /wscale:(\d+),(\d+)/.exec(shown(replayed)) ?? [];
      t.equal(Number(client), CLIENT_SCALE, "the client's shift is the real one");
      own = Number(listener);
      socket.destroy();
      return tcp!.window;
    };
    await windowOf(0);
    const real = (await windowOf(own)) * 2 ** own;
    t.ok(own > 0 && real > 10_000, `shift ${own}, window ${real}`);
    for (const promised of [0, own - 1, own + 1, 14]) {
      const most = Math.min(Math.floor(real / 2 ** promised), 65_535);
      t.equal(await windowOf(promised), most, `${promised} was promised`);
    }
  });

  t.test('what is forged, or repeated, changes nothing', async (t) => {
    for (const shim of SHIM_BUILDS) {
      node.load(shim);
      const { replayed, socket } = await Replayed.open(node);
      const { session, port, nonce } = replayed;
      const key = join8(
        ...[addressBytes(CLIENT), addressBytes(VIRTUAL)],
        ...[portBytes(port), portBytes(80)],
      );
      const numbers = (): Uint8Array =>
        sessionTranslation(node.shim.object.mapLookup('sessions', key));
      const before = numbers();
      const other = new Replayed(node, {}, nonce + 1, port);
      const dropped: readonly (readonly [string, PacketSpec, string])[] = [
        ['a wrong tag', replayed.syn({ ixp: { tag: 1n } }), 'drop_tag'],
        ['another session, a wrong tag', other.syn({ ixp: { tag: 1n } }), 'drop_tag'],
        ['a strange balancer', replayed.syn({ ixp: { balancer: OWN } }), 'drop_unknown_balancer'],
        ['a SYN/ACK', replayed.syn({ tcp: { flags: 'SA' } }), 'drop_flags'],
        ['no SYN', replayed.syn({ tcp: { flags: 'A' } }), 'drop_flags'],
        ['a SYN with payload', replayed.syn({ payload: 'x' }), 'drop_flags'],
      ];
      for (const [name, frame, counter] of dropped) {
        const rose = node.shim.counted(() => {
          const { verdict } = node.shim.object.testRun('shim_ingress', build(frame, KEY), {});
          t.equal(verdict, Verdict.drop, `${shim}: ${name}`);
        });
        t.strictSame(rose, [counter], name);
      }
      // The same SYN once more, and answers to it that nobody has asked for.
      wire.send(replayed.syn());
      await session.expectNotice(Ixcp.adopted, { ack: REQUEST_END });
      const answer = node.plain(port, { seq: SEQ - 1, ack: ACK, flags: 'SA' });
      wire.send(answer);
      wire.send({
        ...(answer.ethernet === undefined ? {} : { ethernet: answer.ethernet }),
        ip: { source: BALANCER, destination: OWN },
        ixcp: { type: Ixcp.synAck, session: nonce, client: CLIENT, clientPort: port },
      });
      socket.write('an answer');
      await replayed.hear('the answer', { seq: ACK, ack: REQUEST_END, flags: 'PA' }, 'an answer');
      t.strictSame(numbers(), before, 'the numbers are translated as before');
      socket.destroy();
    }
  });
}
