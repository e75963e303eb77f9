import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { type AgentOptions, runAgent } from '../../src/node/agent.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';
import { BALANCER, fakeBalancer } from './fake-balancer.js';
import { insideNamespace, Peer, run, until } from './namespace.js';
import { Program, recordedKinds, snapshot, stateFiles } from './program.js';

const OWN = '10.99.0.3';
const VIRTUAL = '10.99.0.100';
const KEY = '000102030405060708090a0b0c0d0e0f';
const NOBODY = 65_534;

if (insideNamespace(import.meta.url)) {
  const peer = await Peer.make('eth0', `${BALANCER}/24`, '02:00:00:00:00:02');
  run('ip', 'address', 'add', `${OWN}/24`, 'dev', 'eth0');
  const directory = mkdtempSync(join(tmpdir(), 'baton-agent-'));
  const write = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text, { mode: 0o600 });
    return join(directory, name);
  };
  write('key.hex', KEY);
  const config = (extra = ''): string => {
    const text = `keyFile: key.hex\nvirtualAddresses: [${VIRTUAL}]\nbalancers: [${BALANCER}]\n`;
    return write(
      'node.yaml',
      text + (extra.includes('interface:') ? extra : `interface: eth0\n${extra}`),
    );
  };
  // It exists unless a test is about its absence.
  let balancer = await fakeBalancer(peer, KEY);
  const replaceBalancer = async (key?: string): Promise<void> => {
    balancer.child.kill('SIGKILL');
    if (key !== undefined) balancer = await fakeBalancer(peer, key);
  };
  t.teardown(() => {
    balancer.child.kill('SIGKILL');
    peer.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  const before = snapshot();
  const agents: Program[] = [];
  const startAgent = (extra?: string): Program => {
    const agent = new Program(['node', '-c', config(extra)]);
    agents.push(agent);
    return agent;
  };
  t.afterEach(async () => {
    for (const agent of agents.splice(0))
      if (agent.child.exitCode === null) await agent.end('SIGKILL');
  });
  /** It prints one line, ends with 1, and has changed nothing. */
  const refuses = async (t: Test, agent: Program, line: string | RegExp): Promise<void> => {
    t.equal((await agent.ended).code, 1);
    const lines = agent.text.trim().split('\n');
    const said = lines.filter((text) => text.startsWith('baton: '));
    t.equal(said.length, 1, agent.text);
    t.match(said[0], line);
    t.same(snapshot(), before);
    t.same(stateFiles(), []);
  };

  t.test('start and stop leave the machine as it was', async (t) => {
    const { lines } = balancer;
    const agent = startAgent();
    await agent.says(/is ready/);
    t.match(agent.text, new RegExp(`balancer ${BALANCER} receives the reports of this node`));
    t.match(run('ip', '-4', 'address', 'show', 'dev', 'lo'), `inet ${VIRTUAL}/32`);
    t.match(run('sysctl', '-n', 'net.ipv4.conf.eth0.arp_ignore'), '1');
    t.match(run('sysctl', '-n', 'net.ipv4.conf.eth0.arp_announce'), '2');
    t.match(run('tc', 'filter', 'show', 'dev', 'eth0', 'ingress'), 'shim_ingress');
    t.match(run('tc', 'filter', 'show', 'dev', 'eth0', 'egress'), 'shim_egress');
    const connect = `for (const to of ['${OWN}', '${VIRTUAL}']) require('net').connect(81, to).on('error', () => {});`;
    const client = peer.script(connect);
    await until('an ARP entry', () => peer.run('ip', 'neigh', 'show', OWN).includes('lladdr'));
    await sleep(200);
    t.notMatch(
      peer.run('ip', 'neigh', 'show', VIRTUAL),
      'lladdr',
      'no machine answers ARP for the virtual address',
    );
    client.kill('SIGKILL');
    await until('three reports', () => lines.length >= 4);
    t.same(await agent.end('SIGTERM'), { code: 0, signal: null });
    t.same(snapshot(), before);
    t.same(stateFiles(), []);
    const reports = lines.slice(1).map((line) => line.split(' '));
    t.ok(reports.every(([, , good]) => good === 'true'));
    t.equal(new Set(reports.map(([, nonce]) => nonce)).size, 1);
    const flags = reports.map(([text]) => Number(text));
    const usual =
      IxcpFlag.canAdopt |
      IxcpFlag.namesAddresses |
      IxcpFlag.canRelease |
      IxcpFlag.canLeave |
      IxcpFlag.canPark |
      IxcpFlag.canReplay |
      IxcpFlag.canOwn;
    t.equal(flags.pop(), usual | IxcpFlag.leaving);
    t.ok(flags.every((value) => value === usual));
  });

  t.test('killed, started, stopped: as it was', async (t) => {
    const killed = startAgent();
    await killed.says(/is ready/);
    const set = snapshot();
    await killed.end('SIGKILL');
    t.same(snapshot(), set, 'no run has undone the changes');
    const agent = startAgent();
    await until('the next agent to be at work', () => snapshot().join() !== set.join());
    const ids = (lines: string[]): string[] =>
      lines.map((line) => line.replace(/ (id|tag) \w+|:\[\d+\]/g, ''));
    t.same(
      ids(snapshot()),
      ids(set),
      'changes that the new run needs too have stayed, and the filters were replaced',
    );
    await agent.says(/is ready/);
    t.equal((await agent.end('SIGINT')).code, 0);
    t.same(snapshot(), before);
    t.same(stateFiles(), []);
  });

  t.test('killed, and the next run has another config', async (t) => {
    const killed = startAgent();
    await killed.says(/is ready/);
    await killed.end('SIGKILL');
    write(
      'other.yaml',
      `interface: eth0\nkeyFile: key.hex\nvirtualAddresses: [10.99.0.101]\nbalancers: [${BALANCER}]\n`,
    );
    const agent = new Program(['node', '-c', join(directory, 'other.yaml')]);
    agents.push(agent);
    await agent.says(/is ready/);
    const addresses = run('ip', '-4', 'address', 'show', 'dev', 'lo');
    t.match(addresses, '10.99.0.101/32');
    t.notMatch(addresses, VIRTUAL);
    t.equal((await agent.end('SIGTERM')).code, 0);
    t.same(snapshot(), before);
  });

  t.test('settings of the user stay', async (t) => {
    run(
      'sysctl',
      '-qw',
      'net.ipv4.tcp_syncookies=0',
      'net.ipv4.conf.all.arp_announce=2',
      'net.ipv4.conf.eth0.arp_ignore=2',
    );
    run('ip', 'address', 'add', `${VIRTUAL}/32`, 'dev', 'lo');
    run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact');
    const own = snapshot();
    const agent = startAgent();
    await agent.says(/is ready/);
    t.same(
      recordedKinds(),
      ['setting', 'filter', 'filter'],
      'only SYN cookies and the shim were needed',
    );
    t.match(run('sysctl', '-n', 'net.ipv4.tcp_syncookies'), '1');
    t.equal((await agent.end('SIGTERM')).code, 0);
    t.same(snapshot(), own);
    run(
      'sysctl',
      '-qw',
      'net.ipv4.tcp_syncookies=1',
      'net.ipv4.conf.all.arp_announce=0',
      'net.ipv4.conf.eth0.arp_ignore=0',
    );
    run('ip', 'address', 'del', `${VIRTUAL}/32`, 'dev', 'lo');
    run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact');
    t.same(snapshot(), before);
  });

  t.test('without a balancer it says so and continues; a signal ends it at any time', async (t) => {
    await replaceBalancer();
    const agent = startAgent();
    await agent.says(/no answer from 10\.99\.0\.2 yet/);
    await agent.says(/is ready/);
    t.equal((await agent.end('SIGTERM')).code, 0);
    const early = startAgent();
    await until('the shim', () => recordedKinds().filter((kind) => kind === 'filter').length === 2);
    const began = performance.now();
    t.equal((await early.end('SIGTERM')).code, 0);
    t.ok(performance.now() - began < 3_000, 'without waiting for an answer, which takes longer');
    t.same(snapshot(), before);
    await replaceBalancer(KEY);
  });

  t.test('another key', async (t) => {
    await replaceBalancer(KEY.replace('00', '11'));
    const line = `baton: balancer ${BALANCER} has another key (balancer and nodes need key files with the same content)`;
    await refuses(t, startAgent(), line);
    await replaceBalancer(KEY);
  });

  t.test('a second agent', async (t) => {
    const first = startAgent();
    await first.says(/is ready/);
    const set = snapshot();
    const second = startAgent();
    t.equal((await second.ended).code, 1);
    t.equal(
      second.text,
      'baton: eth0: another node is running on this interface (stop it first)\n',
    );
    t.same(snapshot(), set, 'the first is not disturbed');
    await first.end('SIGTERM');
  });

  t.test('a start that fails prints one line and changes nothing', async (t) => {
    const none = startAgent('interface: eth9\n');
    await refuses(t, none, /^baton: eth9: no such interface \(this machine has .*eth0.*\)$/);
    await refuses(t, startAgent('interface: lo\n'), /^baton: lo: is the loopback interface/);
    await refuses(
      t,
      startAgent('address: 10.99.0.77\n'),
      'baton: eth0: does not have the address 10.99.0.77 (it has 10.99.0.3)',
    );
    chmodSync(join(directory, 'key.hex'), 0o644);
    await refuses(t, startAgent(), /key\.hex: mode 0644 gives access to other users/);
    chmodSync(join(directory, 'key.hex'), 0o600);
    run('chmod', '-R', 'a+rX', directory);
    chmodSync(join(directory, 'key.hex'), 0o600);
    const unprivileged = new Program(['node', '-c', config()], { uid: NOBODY });
    chmodSync(join(directory, 'node.yaml'), 0o644);
    await refuses(
      t,
      unprivileged,
      /^baton: no privilege to change the network: CAP_NET_ADMIN, .* \(run it as root\)$/,
    );
    run('sysctl', '-qw', 'net.ipv4.conf.all.arp_ignore=3');
    const loud = startAgent();
    t.equal((await loud.ended).code, 1);
    t.match(loud.text, /^baton: eth0: net\.ipv4\.conf\.all\.arp_ignore is 3/);
    run('sysctl', '-qw', 'net.ipv4.conf.all.arp_ignore=0');
    t.same(snapshot(), before);
    run('ip', 'link', 'set', 'eth0', 'down');
    const down = startAgent();
    t.equal((await down.ended).code, 1);
    t.match(down.text, /^baton: eth0: the interface is down \(/);
    run('ip', 'link', 'set', 'eth0', 'up');
    await until('the link to be up', () => snapshot().join() === before.join());
  });

  const options: AgentOptions = {
    interface: 'eth0',
    address: undefined,
    key: Buffer.from(KEY, 'hex'),
    virtualAddresses: [addressNumber(VIRTUAL)],
    balancers: [addressNumber(BALANCER)],
    listen: undefined,
    maxSessions: 1_024,
    log: { info: () => {}, warn: () => {} },
  };

  t.test('an older kernel', async (t) => {
    for (const follows of [true, false]) {
      const stop = new AbortController();
      const lines: string[] = [];
      const log = { info: (line: string) => void lines.push(line), warn: () => {} };
      const from = balancer.lines.length;
      const running = runAgent(
        { ...options, log, shimKernel: { adopts: false, follows } },
        stop.signal,
      );
      await until('a report', () => balancer.lines.length > from);
      const able = follows ? IxcpFlag.canLeave | IxcpFlag.canPark : 0;
      t.equal(
        Number(balancer.lines.at(-1)?.split(' ')[0]),
        IxcpFlag.namesAddresses | IxcpFlag.canRelease | IxcpFlag.canReplay | IxcpFlag.canOwn | able,
      );
      t.match(run('tc', 'filter', 'show', 'dev', 'eth0', 'ingress'), 'shim_ingress');
      t.match(lines.join('\n'), /this kernel cannot adopt connections/);
      stop.abort();
      await running;
      t.same(snapshot(), before);
    }
  });

  t.test('if a step of the start fails, all earlier steps are undone', async (t) => {
    // The last step of the setup meets another program's filter.
    run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact');
    const { loadObject } = await import('../../src/host/bpf-object.js');
    const { native } = await import('../../src/host/native.js');
    const guard = loadObject('guard');
    guard.attachTc('guard_ingress', native().interfaceInfo('eth0')?.index ?? 0, 'ingress', 2, 1);
    const occupied = snapshot();
    await t.rejects(runAgent(options, new AbortController().signal), { code: 'BATON_IN_USE' });
    t.same(snapshot(), occupied);
    t.same(stateFiles(), []);
    guard.close();
    run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact');
    t.same(snapshot(), before);
  });

  t.test('a change that another program undoes is made again', async (t) => {
    const agent = startAgent();
    await agent.says(/is ready/);
    run('ip', 'address', 'del', `${VIRTUAL}/32`, 'dev', 'lo');
    run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact');
    await agent.says(/address 10\.99\.0\.100\/32 on lo was missing, and is restored/);
    await agent.says(/tc filter shim_ingress \(ingress\) was missing, and is restored/);
    await agent.says(/tc filter shim_egress \(egress\) was missing, and is restored/);
    t.match(run('ip', '-4', 'address', 'show', 'dev', 'lo'), `inet ${VIRTUAL}/32`);
    t.equal((await agent.end('SIGTERM')).code, 0);
    t.same(snapshot(), before);
  });

  t.test(
    'the loss of an interface is logged, and an interface of that name is used again',
    async (t) => {
      const add = (): void => {
        run('ip', 'link', 'add', 'eth5', 'type', 'veth', 'peer', 'name', 'peer5');
        run('ip', 'link', 'set', 'peer5', 'up');
        run('ip', 'link', 'set', 'eth5', 'up');
      };
      add();
      run('ip', 'address', 'add', '10.95.0.3/24', 'dev', 'eth5');
      const lines: string[] = [];
      const log = {
        info: (text: string) => lines.push(text),
        warn: (text: string) => lines.push(text),
      };
      const end = new AbortController();
      const running = runAgent(
        {
          ...options,
          interface: 'eth5',
          balancers: [addressNumber('10.95.0.2')],
          log,
          checkMs: 20,
          remindMs: 100,
        },
        end.signal,
      );
      const count = (text: RegExp): number => lines.filter((line) => text.test(line)).length;
      await until('it to be ready', () => count(/is ready/) === 1);
      run('ip', 'link', 'del', 'eth5');
      await until(
        'the message',
        () => count(/^interface eth5 is gone: no session can be handed over to this node$/) === 1,
      );
      await until(
        'the message again',
        () => count(/^interface eth5 is gone, for \d+ s: no session/) >= 3,
      );
      t.match(
        run('ip', '-4', 'address', 'show', 'dev', 'lo'),
        `inet ${VIRTUAL}/32`,
        'changes that connections need stay',
      );
      add();
      await until(
        'the loss of the address',
        () => count(/^interface eth5 has lost the address 10\.95\.0\.3/) > 0,
      );
      t.equal(count(/^interface eth5 is back$/), 0);
      run('ip', 'address', 'add', '10.95.0.3/24', 'dev', 'eth5');
      await until('it to be back', () => count(/^interface eth5 is back$/) === 1);
      t.equal(count(/^interface eth5 was replaced by another one: set up again$/), 1);
      t.match(run('tc', 'filter', 'show', 'dev', 'eth5', 'ingress'), 'shim_ingress');
      t.match(run('tc', 'filter', 'show', 'dev', 'eth5', 'egress'), 'shim_egress');
      end.abort();
      await running;
      run('ip', 'link', 'del', 'eth5');
      t.same(stateFiles(), []);
    },
  );

  t.test('changed settings are reported, and SYN cookies are switched on again', async (t) => {
    const { lines } = balancer;
    const agent = startAgent();
    await agent.says(/is ready/);
    const usual =
      IxcpFlag.canAdopt |
      IxcpFlag.namesAddresses |
      IxcpFlag.canRelease |
      IxcpFlag.canLeave |
      IxcpFlag.canPark |
      IxcpFlag.canReplay |
      IxcpFlag.canOwn;
    const reported = (flags: number): Promise<void> =>
      until(`flags ${flags}`, () => Number(lines.at(-1)?.split(' ')[0]) === flags);
    await reported(usual);
    for (const [setting, flag] of [
      ['tcp_timestamps', IxcpFlag.noTimestamps],
      ['tcp_sack', IxcpFlag.noSack],
      ['tcp_window_scaling', IxcpFlag.noWindowScale],
    ] as const) {
      run('sysctl', '-qw', `net.ipv4.${setting}=0`);
      await reported(usual | flag);
      await agent.says(new RegExp(`net\\.ipv4\\.${setting} is 0: `));
      run('sysctl', '-qw', `net.ipv4.${setting}=1`);
      await reported(usual);
      await agent.says(new RegExp(`net\\.ipv4\\.${setting} is on again`));
    }
    const from = lines.length;
    run('sysctl', '-qw', 'net.ipv4.tcp_syncookies=0');
    await agent.says(
      /net\.ipv4\.tcp_syncookies is 0: this kernel cannot adopt sessions; switching it on/,
    );
    await agent.says(/net\.ipv4\.tcp_syncookies is on again/);
    t.equal(run('sysctl', '-n', 'net.ipv4.tcp_syncookies').trim(), '1');
    const flagsSeen = lines.slice(from).map((line) => Number(line.split(' ')[0]));
    t.ok(
      flagsSeen.includes((usual & ~IxcpFlag.canAdopt) | IxcpFlag.noCookies),
      'it could not adopt while SYN cookies were off',
    );
    t.equal((await agent.end('SIGTERM')).code, 0);
    t.equal(run('sysctl', '-n', 'net.ipv4.tcp_syncookies').trim(), '0', 'as the user had set it');
    run('sysctl', '-qw', 'net.ipv4.tcp_syncookies=1');
    t.same(snapshot(), before);
  });

  t.test('a web server on this machine is not affected', async (t) => {
    const server = createServer((socket) => socket.end('served'));
    await new Promise<void>((resolve) => server.listen(80, () => resolve()));
    const agent = startAgent('listen: 127.0.0.1:8080\n');
    await agent.says(/is ready/);
    const source =
      "require('net').connect(80, '10.99.0.3').on('data', (d) => { console.log(String(d)); process.exit(); });";
    const client = peer.script(source);
    let text = '';
    client.stdout?.on('data', (part) => {
      text += String(part);
    });
    await until('the answer', () => text.includes('served'));
    t.equal((await agent.end('SIGTERM')).code, 0);
    server.close();
    await sleep(10);
    t.same(snapshot(), before);
  });
}
