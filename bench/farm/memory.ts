/**
 * Measures memory: of Baton with a million sessions, and of HAProxy with as many connections as it
 * can hold on this machine.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Program, run } from '../../lab/farm/process.js';
import type { Contest } from './contenders.js';
import type { Pair } from './pair.js';
import { limited, OPEN_FILES, openFiles, proxyConnections } from './proxies.js';
import type { BatonMemory, ProxyMemory } from './results.js';

const KIB = 1024;
/** Types of maps that hold maps: BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS. */
const MAPS_OF_MAPS = [12, 13];

interface Parts {
  process: number;
  rings: number;
  maps: number;
}

/**
 * Opens sessions at a running balancer without sessions, and measures its memory: every resident
 * page of its process, all memory that it shares with the kernel, resident or not, and its BPF maps
 * as the kernel accounts them.
 */
export async function measureBatonMemory(
  pair: Pair,
  datapath: string,
  sessions: number,
): Promise<BatonMemory> {
  const { baton } = pair;
  if (baton === undefined) throw new Error('the balancer of the pair is not started');
  const sum = ({ process, rings, maps }: Parts): number => process + rings + maps;
  const empty = sum(await partsOf(baton.pid));
  const seconds = await pair.open(sessions);
  await sleep(1000);
  return { datapath, sessions, seconds, ...(await partsOf(baton.pid)), empty };
}

async function partsOf(pid: number): Promise<Parts> {
  let process = 0;
  const shared = new Map<string, number>();
  for (const { name, file, offset, size, resident } of mappings(pid)) {
    // Pages of maps are counted with the maps.
    if (name.includes('bpf-map')) continue;
    // Several threads may map the same memory: it counts once. The rings of a socket are not one
    // file.
    if (name.startsWith('/memfd:'))
      shared.set(file, Math.max(offset + size, shared.get(file) ?? 0));
    else if (name.startsWith('socket:')) shared.set(`${file} ${offset}`, size);
    else process += resident;
  }
  const rings = [...shared.values()].reduce((sum, bytes) => sum + bytes, 0);
  return { process, rings, maps: await mapBytes(pid) };
}

interface Mapping {
  name: string;
  /** Device and inode of the mapped file. */
  file: string;
  offset: number;
  size: number;
  resident: number;
}

function mappings(pid: number): Mapping[] {
  const found: Mapping[] = [];
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const head = /^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) (\S+) (\d+) *(.*)$/.exec(line);
    const last = found.at(-1);
    const field = /^(Size|Rss): +(\d+) kB$/.exec(line);
    if (head !== null) {
      const [, offset = '', device, inode, name = ''] = head;
      const file = `${device} ${inode}`;
      found.push({ name, file, offset: Number.parseInt(offset, 16), size: 0, resident: 0 });
    } else if (field !== null && last !== undefined) {
      last[field[1] === 'Size' ? 'size' : 'resident'] = Number(field[2]) * KIB;
    }
  }
  return found;
}

interface ShownMap {
  bytes_memlock?: number;
}

/** Bytes of all BPF maps that a process has open, and of the maps inside them. */
async function mapBytes(pid: number): Promise<number> {
  const ids = new Set<number>();
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    const info = fileText(`/proc/${pid}/fdinfo/${fd}`);
    const id = Number(/^map_id:\s+(\d+)$/m.exec(info)?.[1] ?? 0);
    if (id === 0) continue;
    ids.add(id);
    if (!MAPS_OF_MAPS.includes(Number(/^map_type:\s+(\d+)$/m.exec(info)?.[1]))) continue;
    for (const inner of await innerMaps(id)) ids.add(inner);
  }
  let bytes = 0;
  for (const id of ids) {
    const { stdout } = await run('bpftool', ['-j', 'map', 'show', 'id', String(id)]);
    bytes += (JSON.parse(stdout) as ShownMap).bytes_memlock ?? 0;
  }
  return bytes;
}

/**
 * Returns the ids of the maps in a map of maps. The ids are its values, which bpftool shows as
 * bytes in host order.
 */
async function innerMaps(id: number): Promise<number[]> {
  const { stdout } = await run('bpftool', ['-j', 'map', 'dump', 'id', String(id)]);
  const entries = JSON.parse(stdout) as { value?: unknown }[];
  return entries.flatMap(({ value }) => {
    if (!Array.isArray(value) || value.length !== Uint32Array.BYTES_PER_ELEMENT) return [];
    return new Uint32Array(Uint8Array.from(value, Number).buffer)[0] ?? [];
  });
}

function fileText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // closed since the directory was read
  }
}

/** Sends a request on each of its connections, then keeps them open until it is killed. */
const HOLDER = `
import socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
for i in range(count):
    try:
        s = socket.create_connection((host, port), 5)
        s.sendall(b"GET /1k.bin HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n")
        got = b""
        while b"\\r\\n\\r\\n" not in got:
            got += s.recv(65536)
        held.append(s)
    except OSError as error:
        print("held %d: %s" % (len(held), error), flush=True)
        break
else:
    print("held %d: enough" % len(held), flush=True)
while True:
    sys.stdin.readline() or __import__("time").sleep(1)
`;

/**
 * Idle connections that HAProxy is asked to hold. More would not fit the ports of one client
 * address.
 */
const MOST_CONNECTIONS = 50_000;

/**
 * Measures the tuned HAProxy with connections that sent one request and are kept. It shares its
 * connections to the node, so it holds those of clients only. The stock one also holds one to the
 * node for each of them, for a while.
 */
export async function measureProxyMemory({
  farm,
  contenders,
  haproxy,
}: Contest): Promise<ProxyMemory> {
  const at = contenders.find(({ id }) => id === 'haproxy-tuned')?.at ?? '';
  const [host = '', port = ''] = at.split(':');
  const resident = (program: Program): number =>
    mappings(program.pid).reduce((sum, mapping) => sum + mapping.resident, 0);
  const files = await openFiles(OPEN_FILES);
  const count = Math.min(MOST_CONNECTIONS, proxyConnections(files));
  const empty = resident(haproxy);
  const argv = ['/usr/bin/python3', '-c', HOLDER, host, port, String(count)];
  const holder = farm.client.start('holder', [...limited(files), ...argv]);
  try {
    await holder.waitForLog(/^held \d+: .*$/m, 120_000);
    const [, held, why = ''] = /^held (\d+): (.*)$/m.exec(holder.log()) ?? [];
    await sleep(500);
    const most =
      count < MOST_CONNECTIONS
        ? `${files} open files are allowed, and each connection needs two`
        : 'enough';
    const limit = why === 'enough' ? most : why;
    return { connections: Number(held), empty, process: resident(haproxy), limit };
  } finally {
    await holder.kill();
  }
}
