/** Small requests at a steady rate, each timed: how long packets wait somewhere on their way. */
import { VIRTUAL_ADDRESS } from '../farm/addresses.js';
import type { Farm } from '../farm/farm.js';
import { PYTHON } from '../farm/process.js';
import { PATIENCE_MS } from '../patience.js';

/** `kept`: all on one connection. `new`: each on a connection of its own, timed from its SYN. */
export type PingKind = 'kept' | 'new';

export interface PingOptions {
  kind: PingKind;
  path: string;
  /** Time between two requests, in ms. */
  everyMs: number;
  seconds: number;
}

/** Arguments: kind, address, path, time between two requests and of all together, in seconds. */
const PING = `
import gc, json, socket, sys, time
kind, address, path, every, seconds = sys.argv[1:4] + [float(a) for a in sys.argv[4:]]
gc.disable()
def connect():
    s = socket.create_connection((address, 80), 20)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s
def ask(s, close):
    s.sendall(("GET %s HTTP/1.1\\r\\nHost: x\\r\\n%s\\r\\n" % (path, close)).encode())
    got, length = b"", None
    while length is None or len(got) < length:
        part = s.recv(65536)
        if not part: raise OSError("closed")
        got += part
        if length is None and b"\\r\\n\\r\\n" in got:
            head = got.split(b"\\r\\n\\r\\n")[0]
            if b" 200 " not in head: raise OSError(head.decode("latin1"))
            sizes = [int(l.split(b":")[1]) for l in head.split(b"\\r\\n") if l.lower().startswith(b"content-length")]
            length = len(head) + 4 + sizes[0]
delays = []
kept = connect() if kind == "kept" else None
if kept: ask(kept, "")
due = time.perf_counter()
end = due + seconds
while due < end:
    time.sleep(max(0, due - time.perf_counter()))
    began = time.perf_counter()
    if kept:
        ask(kept, "")
    else:
        with connect() as s: ask(s, "Connection: close\\r\\n")
    now = time.perf_counter()
    delays.append(1000 * (now - began))
    due = max(due + every, now)
print(json.dumps(delays))
`;

/** Sends requests from the first client for a time. Returns the delay of each answer, in ms. */
export async function ping(farm: Farm, options: PingOptions): Promise<number[]> {
  const { kind, path, everyMs, seconds } = options;
  const args = ['-c', PING, kind, VIRTUAL_ADDRESS, path, String(everyMs / 1_000), String(seconds)];
  const timeoutMs = seconds * 1_000 + PATIENCE_MS;
  const { stdout } = await farm.client.run(PYTHON, args, { timeoutMs });
  return JSON.parse(stdout) as number[];
}
