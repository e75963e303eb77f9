/**
 * Sends raw frames on a farm's wire, and captures frames there. Python does it: Node.js has no
 * packet sockets.
 */

import type { Host } from '../farm/host.js';
import { PYTHON } from '../farm/process.js';
import { PATIENCE_MS } from '../patience.js';

const SEND = `
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
sent = 0
for line in sys.stdin:
    try:
        s.send(bytes.fromhex(line))
        sent += 1
    except OSError:
        pass
print(sent)
`;

/** Prints frames until SIGTERM, and then those that are still in the socket. */
const LISTEN = `
import signal, socket, time
SO_RCVBUFFORCE = 33
ending = []
signal.signal(signal.SIGTERM, lambda *_: ending.append(time.monotonic()))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
s.bind(("eth0", 3))
s.settimeout(0.1)
print("listening", flush=True)
while not ending or time.monotonic() < ending[0] + 1:
    try:
        print(s.recv(65536).hex())
    except TimeoutError:
        if ending:
            break
print("complete", flush=True)
`;

/**
 * Sends frames from a host's eth0. Returns how many the kernel took: it refuses, say, empty ones.
 */
export async function sendFrames(host: Host, frames: readonly Uint8Array[]): Promise<number> {
  const input = frames.map((frame) => Buffer.from(frame).toString('hex')).join('\n');
  const { stdout } = await host.run(PYTHON, ['-c', SEND], { input });
  return Number(stdout);
}

/** All frames that pass a host's eth0, in and out, while `during` runs. */
export async function captureFrames(host: Host, during: () => Promise<void>): Promise<Buffer[]> {
  const listener = host.start(`frames-${host.name}`, [PYTHON, '-c', LISTEN]);
  await listener.waitForLog(/^listening$/m);
  try {
    await during();
  } finally {
    listener.signal('SIGTERM');
    await listener.exited;
  }
  const [first, ...lines] = listener.log(listener.logStart).trim().split('\n');
  if (first !== 'listening' || lines.pop() !== 'complete') {
    throw new Error(`the listener printed: ${listener.log().slice(-500)}`);
  }
  return lines.map((line) => Buffer.from(line, 'hex'));
}

const ECHO = `
import os, socket, struct, sys, time
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(float(sys.argv[2]))
ident = os.getpid() & 0xffff
body = struct.pack("!BBHHH", 8, 0, 0, ident, 1) + b"baton!"
s.sendto(body[:2] + struct.pack("!H", checksum(body)) + body[4:], (sys.argv[1], 0))
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    data, source = s.recvfrom(2048)
    if source[0] == sys.argv[1] and data[20] == 0 and data[24:26] == struct.pack("!H", ident):
        print("answered")
        break
`;

/** Tests expect an answer from every address, so a long wait costs nothing. */
const PING_MS = PATIENCE_MS / 2;

/** Whether an address answers an ICMP echo request in time. */
export async function answersPing(host: Host, address: string): Promise<boolean> {
  const { stdout } = await host.run(PYTHON, ['-c', ECHO, address, String(PING_MS / 1000)], {
    allowFailure: true,
  });
  return stdout.includes('answered');
}
