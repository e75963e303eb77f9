/** A balancer that only answers the reports of agents. */
import type { ChildProcess } from 'node:child_process';
import { type Peer, until } from './namespace.js';

export const BALANCER = '10.99.0.2';

/**
 * Answers reports as an engine does, and prints the flags and nonce of each. Arguments: root of the
 * modules, key.
 */
const FAKE_BALANCER = `
const [root, keyText] = process.argv.slice(1);
(async () => {
  const { native } = await import(root + 'host/native.js');
  const { emitIxcp, verifyIxcp, hashIxcp, IXCP, IxcpType } = await import(root + 'wire/ixcp.js');
  const { SipHash } = await import(root + 'wire/siphash.js');
  const { parseAddress } = await import(root + 'wire/address.js');
  const hash = new SipHash(Buffer.from(keyText, 'hex'));
  const own = parseAddress('${BALANCER}');
  const socket = native().openRawSocket(254);
  socket.start((source, payload) => {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    hashIxcp(view, source, own, 0, hash);
    const good = view.getUint32(IXCP.tag) === hash.high && view.getUint32(IXCP.tag + 4) === hash.low;
    console.log(view.getUint16(IXCP.flags) + ' ' + view.getUint32(IXCP.session) + ' ' + good);
    const answer = new Uint8Array(40);
    const type = good ? IxcpType.welcome : IxcpType.badKey;
    const session = view.getUint32(IXCP.session);
    emitIxcp(new DataView(answer.buffer), 0, own, source, { type, session }, hash);
    socket.send(source, answer);
  });
  console.log('listening');
})();
`;

export async function fakeBalancer(
  peer: Peer,
  key: string,
): Promise<{ child: ChildProcess; lines: string[] }> {
  const child = peer.script(FAKE_BALANCER, new URL('../../src/', import.meta.url).href, key);
  const lines: string[] = [];
  child.stdout
    ?.setEncoding('utf8')
    .on('data', (text: string) => lines.push(...text.trim().split('\n')));
  await until('the fake balancer', () => lines.length > 0);
  return { child, lines };
}
