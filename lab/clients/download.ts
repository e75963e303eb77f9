/** A download that goes on while a test breaks something, and that ends when the test says so. */
import { existsSync, writeFileSync } from 'node:fs';
import type { Farm } from '../farm/farm.js';
import { type Program, PYTHON } from '../farm/process.js';
import { PATIENCE_MS } from '../patience.js';

/** Bytes at the end that stay unread until the release. */
export const KEPT_BYTES = 400_000;

/**
 * Reads an answer at `pace` bytes a second and leaves its end unread until the release. The receive
 * buffer is small: the server cannot send what is unread, so the connection cannot end before.
 */
const READ_SLOWLY = `
import hashlib, json, os, socket, sys, time
host, port, path, pace, go = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5]
KEPT, PIECE = ${KEPT_BYTES}, 16384
paced = False
began = time.monotonic()
hash, got, length, error = hashlib.sha256(), 0, None, ""
try:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    s.settimeout(${PATIENCE_MS / 1000})
    s.connect((host, port))
    s.sendall(("GET %s HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n" % (path, host)).encode())
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        part = s.recv(4096)
        if not part: raise OSError("closed before its answer: %r" % head)
        head += part
    head, body = head.split(b"\\r\\n\\r\\n", 1)
    lines = head.decode("latin1").split("\\r\\n")
    if " 200 " not in lines[0]: raise OSError(lines[0])
    length = next(int(l.split(":")[1]) for l in lines if l.lower().startswith("content-length:"))
    hash.update(body)
    got = len(body)
    print("begun", flush=True)
    due = time.monotonic()
    while got < length:
        if not os.path.exists(go):
            most = min(PIECE, length - KEPT - got)
            if most <= 0:
                if not paced:
                    paced = True
                    print("paced %.3f" % (time.monotonic() - began), flush=True)
                time.sleep(0.02)
                continue
            due += most / pace
            time.sleep(max(0, due - time.monotonic()))
        else:
            most = 65536
        part = s.recv(most)
        if not part: raise OSError("closed after %d of %d bytes" % (got, length))
        hash.update(part)
        got += len(part)
except (OSError, ValueError, StopIteration) as e:
    error = "%s: %s" % (type(e).__name__, e)
print(json.dumps({"sha256": hash.hexdigest(), "error": error}))
`;

/** The SHA-256 of the bytes that arrived, and '' or what went wrong. */
export interface Downloaded {
  sha256: string;
  error: string;
}

export class Download {
  private static count = 0;
  private readonly program: Program;
  private readonly go: string;

  /**
   * Begins at once, on the first client of the farm.
   * @param url http://ADDRESS/PATH of a file longer than a megabyte
   * @param pace bytes a second until the release
   */
  constructor(farm: Farm, url: string, pace = 1_000_000) {
    const name = `download${Download.count++}`;
    const { hostname, port, pathname } = new URL(url);
    this.go = `${farm.directory}/${name}.go`;
    this.program = farm.client.start(name, [
      ...[PYTHON, '-u', '-c', READ_SLOWLY],
      ...[hostname, port === '' ? '80' : port, pathname, String(pace), this.go],
    ]);
  }

  get running(): boolean {
    return this.program.running;
  }

  /** Waits for the head of the answer. Rejects when the download ends without one. */
  async begun(): Promise<void> {
    await this.program.waitForLog(/^begun$/m);
  }

  /** Waits until only the kept bytes are unread. Returns how long that took, in seconds. */
  async paced(): Promise<number> {
    await this.program.waitForLog(/^paced [\d.]+$/m, 2 * PATIENCE_MS);
    return Number(/^paced ([\d.]+)$/m.exec(this.program.log())?.[1]);
  }

  /** From now on it reads to the end as fast as it can. */
  release(): void {
    if (!existsSync(this.go)) writeFileSync(this.go, '');
  }

  /** Releases it and waits for its end. */
  async finish(): Promise<Downloaded> {
    this.release();
    return (await this.program.document()) as Downloaded;
  }
}
