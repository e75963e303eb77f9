/**
 * The files and the output of `baton replay`. test/datapath tests the result of a replay.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { BatonError } from '../../src/base/errors.js';
import { loadBalancerConfig } from '../../src/config/load.js';
import { ReplayRun } from '../../src/replay/replay-run.js';
import { replay, toJson, toText } from '../../src/replay/run.js';
import { requireAddress } from '../../src/wire/address.js';
import { openCapture } from '../../src/wire/capture-file.js';
import { capture } from '../support/captures.js';

const CONFIG = `
interface: eth0
keyFile: there-is-no-such.key
virtualServers:
  - {name: www, address: 192.150.187.43, port: 80}
nodes:
  - {name: n1, address: 10.99.0.3}
  - {name: n2, address: 10.99.0.4}
resources:
  - {path: /, nodes: [n1, n2]}
`;

interface Place {
  config: string;
  file(name: string): string;
}

function place(t: Test): Place {
  const directory = t.testdir({ 'balancer.yaml': CONFIG });
  const file = (name: string): string => path.join(directory, name);
  writeFileSync(file('get.pcap'), capture('get.pcap'));
  return { config: file('balancer.yaml'), file };
}

/** Runs a replay and collects both output streams. */
async function run(
  options: Parameters<typeof replay>[0],
): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await replay(options, {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}

t.test('a replay prints tables, and writes frames to a file', async (t) => {
  const { config, file } = place(t);
  const { code, out, err } = await run({
    config,
    in: file('get.pcap'),
    out: file('out.pcap'),
    json: false,
  });
  t.equal(code, 0);
  t.equal(err, '');
  const lines = out.split('\n');
  t.match(
    lines[0],
    /get\.pcap: 14 frames in 212ms: 7 of clients, 7 of servers, 0 others; 1 session$/,
  );
  t.match(lines[2], /^ +AT +CLIENT +SERVER +NODE +WHY +HANDOFF +PACKETS +STATE +CLOSED +REQUEST$/);
  t.match(
    lines[3],
    /141\.142\.228\.5:59856 +www +n1 +\/: round-robin of 2 +n1 adopted \(1\) +4 +closing +fin at 212ms +GET \/download\/CHANGES\.bro-aux\.txt$/,
  );
  t.match(out, /\nclosed_fin +1\n/);
  const reader = openCapture(new Uint8Array(readFileSync(file('out.pcap'))))!;
  let frames = 0;
  while (reader.next()) frames += 1;
  t.equal(frames, 6, 'a SYN/ACK, a handoff, four forwarded segments');
  t.equal(reader.fault, undefined);
});

t.test('a replay prints JSON', async (t) => {
  const { config, file } = place(t);
  const { code, out } = await run({ config, in: file('get.pcap'), json: true });
  t.equal(code, 0);
  const document = JSON.parse(out) as unknown;
  t.match(document, {
    file: file('get.pcap'),
    capture: { frames: 14, delivered: 7, fromServers: 7, fault: null, durationMs: 211.628 },
    sessions: [
      {
        client: '141.142.228.5:59856',
        virtualServer: 'www',
        openedMs: 0,
        establishedMs: 70.034,
        request: 'GET /download/CHANGES.bro-aux.txt',
        status: 200,
        resource: '/',
        node: 'n1',
        why: '/: round-robin of 2',
        handoffs: [{ node: 'n1', attempts: 1, outcome: 'adopted' }],
        state: 'closing',
        packets: 4,
        closed: 'fin',
      },
    ],
    nodes: [
      { name: 'n1', address: '10.99.0.3', sessions: 1 },
      { name: 'n2', address: '10.99.0.4', sessions: 0 },
    ],
    counters: { syn: 1, adopted: 1, drop_tcp_checksum: 0 },
  });
});

t.test('the same capture and config give the same result', async (t) => {
  const { config, file } = place(t);
  const results: unknown[] = [];
  for (const name of ['a.pcap', 'b.pcap']) {
    const { out } = await run({ config, in: file('get.pcap'), out: file(name), json: true });
    results.push([out, readFileSync(file(name)).toString('base64')]);
  }
  t.strictSame(results[0], results[1]);
});

t.test(
  'a damaged capture: the frames before the damage, then the damage, and exit code 1',
  async (t) => {
    const { config, file } = place(t);
    writeFileSync(file('cut.pcap'), capture('get.pcap').subarray(0, 1_000));
    const { code, out, err } = await run({ config, in: file('cut.pcap'), json: false });
    t.equal(code, 1);
    t.match(out, /GET \/download\/CHANGES\.bro-aux\.txt/);
    t.match(
      err,
      /^baton: .*cut\.pcap: damaged at byte 590: a frame of 1514 bytes is cut off after 394; the 5 frames before that were replayed\n$/,
    );
  },
);

t.test('files that cannot be used are refused', async (t) => {
  const { config, file } = place(t);
  writeFileSync(file('text'), 'this is no capture\n');
  writeFileSync(file('empty'), '');
  const cases: [string, Parameters<typeof replay>[0], RegExp][] = [
    [
      'absent',
      { config, in: file('none.pcap'), json: false },
      /none\.pcap: cannot be read: there is no such file/,
    ],
    ['a directory', { config, in: file('.'), json: false }, /not a regular file/],
    ['no capture', { config, in: file('text'), json: false }, /text: is neither pcap nor pcapng/],
    ['empty', { config, in: file('empty'), json: false }, /empty: is neither pcap nor pcapng/],
    [
      'output file is input file',
      { config, in: file('get.pcap'), out: file('get.pcap'), json: false },
      /is the capture to read; name another file/,
    ],
    [
      'output in no directory',
      { config, in: file('get.pcap'), out: file('none/x'), json: false },
      /x: cannot be written: there is no such directory/,
    ],
  ];
  for (const [name, options, line] of cases) {
    const error = await replay(options).catch((thrown: unknown) => thrown);
    if (!(error instanceof BatonError)) throw new Error(`${name}: no BatonError`);
    t.equal(error.code, 'BATON_CAPTURE', name);
    t.match(error.toLine(), line, name);
  }
  t.equal(
    readFileSync(file('get.pcap')).length,
    capture('get.pcap').length,
    'the input has not changed',
  );
  await t.rejects(replay({ config, in: file('text'), out: file('new.pcap'), json: false }));
  t.notOk(existsSync(file('new.pcap')), 'no output file when the input is not a capture');
});

t.test('servers of a capture that the config does not have are named', async (t) => {
  const { config, file } = place(t);
  writeFileSync(file('other.pcap'), capture('methods.pcap'));
  const { code, out } = await run({ config, in: file('other.pcap'), json: false });
  t.equal(code, 0);
  t.match(out, 'no SYN to a virtual server of this config; SYNs went to 173.194.75.103:80');
});

t.test('text from the wire or the command line is escaped', async (t) => {
  const { config, file } = place(t);
  const bytes = capture('methods.pcap');
  const settings = loadBalancerConfig(config);
  const [server] = settings.virtualServers;
  const result = ReplayRun.open(bytes, {
    ...settings,
    virtualServers: [{ ...server!, address: requireAddress('173.194.75.103') }],
  })!.run();
  for (const text of [toText('a\u001b[31m\u202eb', result), toJson('a\u001b[31m\u202eb', result)]) {
    t.notMatch(text, /[^\u0020-\u007e\n]/);
  }
  t.ok(existsSync(file('get.pcap')));
});
