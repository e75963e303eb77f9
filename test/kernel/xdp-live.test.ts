/**
 * The XDP program and the guard behind it on real interfaces, native and generic, between the
 * kernels of a client and a node. The client's kernel accepts the SYN/ACK. Forwarded segments
 * arrive, whether or not checksum and segmentation are left to hardware.
 */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { CONTROL, OUTPUT } from '../../src/datapath/xdp-layout.js';
import { hostU32 } from '../../src/host/bpf-object.js';
import { native, type XdpMode } from '../../src/host/native.js';
import { insideNamespace, Peer, run, until } from './namespace.js';
import { project } from './shim-fixture.js';
import { Fast, XDP_COUNTERS } from './xdp-fixture.js';
import { BALANCER, CLIENT, clock, NODE, PORTS, VIRTUAL } from './xdp-packets.js';

/** Connects, prints its port, and writes. */
const CLIENT_PROGRAM = `
const socket = require('node:net').connect(${PORTS[0]}, '${VIRTUAL}');
socket.on('connect', () => console.log('port', socket.localPort));
socket.on('error', (error) => console.log(error.code));
setInterval(() => socket.readyState === 'open' && socket.write('x'.repeat(5000)), 100);
`;
const SYSCTLS = ['tcp_timestamps', 'tcp_sack', 'tcp_window_scaling'];

/** A counter of /proc/net/snmp in a peer. */
function tcpCounter(peer: Peer, name: string): number {
  const [names = '', values = ''] = peer.run('grep', '^Tcp:', '/proc/net/snmp').split('\n');
  return Number(values.split(' ')[names.split(' ').indexOf(name)]);
}

if (insideNamespace(import.meta.url)) {
  const client = await Peer.make('e0', `${CLIENT.address}/24`, CLIENT.mac);
  const node = await Peer.make('e1', `${VIRTUAL}/24`, NODE.mac);
  t.teardown(() => {
    guard.close();
    client.stop();
    node.stop();
  });
  run('ip', 'link', 'set', 'e0', 'address', BALANCER.mac);
  client.run('ip', 'neigh', 'replace', VIRTUAL, 'lladdr', BALANCER.mac, 'dev', 'eth0');
  // The peers poll: otherwise a veth accepts no frames that a program sends.
  for (const peer of [client, node]) peer.run('ethtool', '-K', 'eth0', 'gro', 'on');
  const guard = native().loadBpf(join(project, 'build', 'bpf', 'guard.bpf.o'));
  const e0 = native().interfaceInfo('e0')?.index ?? 0;
  const e1 = native().interfaceInfo('e1')?.index ?? 0;

  const converse = async (test: Test, mode: XdpMode, options: boolean): Promise<void> => {
    const fast = new Fast();
    for (const name of SYSCTLS) client.run('sysctl', '-qw', `net.ipv4.${name}=${options ? 1 : 0}`);
    client.run('ethtool', '-K', 'eth0', 'tx', 'on');
    fast.alive(clock());
    fast.node(NODE.index, { mac: NODE.mac, interface: e1 });
    for (const index of [e0, e1]) fast.object.mapUpdate('ports', hostU32(index), hostU32(index));
    // A frame that a veth sends with XDP_TX gets stuck unless its peer has an XDP program.
    fast.control.setUint8(CONTROL.output, mode === 'native' ? OUTPUT.redirect : OUTPUT.generic);
    guard.attachTc('guard_ingress', e0, 'ingress', 1, 1);
    native().attachXdp(e0, fast.object.programFd('baton_xdp'), mode);
    let program: ChildProcess | undefined;
    try {
      let said = '';
      program = client.script(CLIENT_PROGRAM);
      program.stdout?.on('data', (part: Buffer) => {
        said += part.toString();
      });
      await until('the client is connected', () => said !== '');
      const port = Number(/^port (\d+)$/m.exec(said)?.[1]);
      test.ok(port > 0, `its kernel took the SYN/ACK: ${said.trim()}`);
      test.equal(sum(fast, 'syn_cookie'), 1);

      fast.insert(addressNumber(CLIENT.address), (port << 16) >>> 0);
      const resets = tcpCounter(node, 'OutRsts');
      const bad = tcpCounter(node, 'InCsumErrors');
      const byStack = (): number => sum(fast, 'forwarded_by_stack');
      await until('a segment whose checksum is left to hardware is forwarded', () => byStack() > 0);
      await until(
        'the node gets the segment, and has no socket for it',
        () => tcpCounter(node, 'OutRsts') > resets,
      );
      client.run('ethtool', '-K', 'eth0', 'tx', 'off');
      const finished = (): number => sum(fast, 'forwarded') - byStack();
      await until('and one whose checksum is finished', () => finished() > 0);
      const again = tcpCounter(node, 'OutRsts');
      await until('the node gets that, too', () => tcpCounter(node, 'OutRsts') > again);
      test.equal(sum(fast, 'drop_no_port') + sum(fast, 'drop_unresolved'), 0);
      test.equal(tcpCounter(node, 'InCsumErrors'), bad, 'checksums are right at the node');
    } finally {
      program?.kill('SIGKILL');
      native().detachXdp(e0, mode);
      fast.close();
    }
  };

  for (const mode of ['native', 'generic'] as const) {
    for (const options of [true, false]) {
      t.test(`${mode}, a client with ${options ? 'all' : 'no'} options`, (test) =>
        converse(test, mode, options),
      );
    }
  }
}

/** The value of one of the program's counters. */
function sum(fast: Fast, name: string): number {
  return fast.object.mapSums('counters', XDP_COUNTERS.length)[XDP_COUNTERS.indexOf(name)]!;
}
