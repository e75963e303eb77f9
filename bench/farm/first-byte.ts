/**
 * Measures the time to the first byte of an answer on a new connection, without other load. A
 * program connects, sends and receives with blocking calls. All contenders take turns.
 */
import type { Host } from '../../lab/farm/host.js';
import type { Contest } from './contenders.js';
import type { FirstByteResult } from './results.js';

const CLIENT = `
import json, socket, sys, time
asked = json.load(sys.stdin)
targets = asked["targets"]
request = "GET /%s HTTP/1.1\\r\\nHost: bench\\r\\nConnection: close\\r\\n\\r\\n"
times = {name: [] for name in targets}
names = list(targets)
for turn in range(asked["warmUp"] + asked["samples"]):
    for step in range(len(names)):
        name = names[(turn + step) % len(names)]
        host, port = targets[name]["at"].split(":")
        head = (request % targets[name]["file"]).encode()
        time.sleep(asked["pauseMs"] / 1000)
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.settimeout(5)
        began = time.perf_counter_ns()
        s.connect((host, int(port)))
        s.sendall(head)
        first = s.recv(65536)
        took = time.perf_counter_ns() - began
        if not first.startswith(b"HTTP/1.1 200"):
            sys.exit("%s answered %r" % (name, first[:80]))
        while s.recv(65536):
            pass
        s.close()
        if turn >= asked["warmUp"]:
            times[name].append(took / 1000)
json.dump(times, sys.stdout)
`;

const FILE = '1k.bin';
const WARM_UP = 20;
/** Pause before each request, so that each contender finds the machine idle. */
const PAUSE_MS = 1;

/** What is asked: address:port, and a file there. */
export interface Target {
  at: string;
  file: string;
}

/** Times to the first byte from each target, in us. */
export async function timeFirstBytes<Name extends string>(
  client: Host,
  targets: Readonly<Record<Name, Target>>,
  samples: number,
): Promise<Record<Name, number[]>> {
  const { stdout } = await client.run('/usr/bin/python3', ['-c', CLIENT], {
    input: JSON.stringify({ targets, samples, warmUp: WARM_UP, pauseMs: PAUSE_MS }),
    timeoutMs: 300_000,
  });
  return JSON.parse(stdout) as Record<Name, number[]>;
}

export async function measureFirstByte(
  contest: Contest,
  samples: number,
): Promise<FirstByteResult> {
  const targets = contest.contenders.map(({ id, at }) => [id, { at, file: FILE }] as const);
  return timeFirstBytes(contest.farm.client, Object.fromEntries(targets), samples);
}
