/**
 * An open packet socket on a host of a farm: frames go out as they are written, and frames to one
 * IPv4 address come in. The address is no machine's, so no kernel answers what arrives.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { Host } from '../farm/host.js';
import { PYTHON } from '../farm/process.js';

const RELAY = `
import os, select, socket, sys
SO_RCVBUFFORCE = 33
ETH_P_IP = 0x0800
own = socket.inet_aton(sys.argv[1])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
s.bind(("eth0", ETH_P_IP))
os.write(1, b"ready\\n")
rest = b""
while True:
    readable, _, _ = select.select([0, s], [], [])
    if s in readable:
        frame = s.recv(65536)
        if frame[30:34] == own:
            os.write(1, frame.hex().encode() + b"\\n")
    if 0 in readable:
        data = os.read(0, 1 << 20)
        if not data:
            break
        lines = (rest + data).split(b"\\n")
        rest = lines.pop()
        for line in lines:
            s.send(bytes.fromhex(line.decode()))
`;

export class Wire {
  private readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  private readonly exited: Promise<void>;
  private rest = '';
  private errors = '';

  private constructor(host: Host, address: string, heard: (frame: Buffer) => void) {
    const [command = '', ...args] = host.inside([PYTHON, '-c', RELAY, address]);
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.exited = new Promise((resolve) => this.child.once('close', () => resolve()));
    this.child.stderr.on('data', (chunk: Buffer) => {
      this.errors = (this.errors + chunk.toString()).slice(-2000);
    });
    this.child.stdin.on('error', () => {}); // its end is reported by `close`
    this.child.stdout.on('data', (chunk: Buffer) => {
      const lines = (this.rest + chunk.toString('latin1')).split('\n');
      this.rest = lines.pop() ?? '';
      for (const line of lines) if (line !== 'ready') heard(Buffer.from(line, 'hex'));
    });
  }

  /**
   * Opens the wire at a host's eth0. `heard` gets each IPv4 frame to `address`. The program ends
   * with this process, because its standard input ends then.
   */
  static async open(host: Host, address: string, heard: (frame: Buffer) => void): Promise<Wire> {
    const wire = new Wire(host, address, heard);
    await new Promise<void>((resolve, reject) => {
      wire.child.stdout.once('data', () => resolve());
      wire.child.once('error', reject);
      wire.child.once('close', () => reject(new Error(`the wire has closed: ${wire.errors}`)));
    });
    return wire;
  }

  /** Sends frames in this order. */
  send(frames: readonly Uint8Array[]): void {
    this.child.stdin.write(frames.map((f) => `${Buffer.from(f).toString('hex')}\n`).join(''));
  }

  /** Ends the program. Rejects if it ended before, by an error. */
  async close(): Promise<void> {
    this.child.stdin.end();
    await this.exited;
    if (this.errors !== '') throw new Error(`the wire has failed: ${this.errors}`);
  }
}
