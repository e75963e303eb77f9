/** Frames put on a farm's wire as they are, and frames heard there. Python does it: Node has no packet sockets. */
import type { Host } from './host.js';
import { run } from './process.js';

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

const LISTEN = `
import socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("eth0", 3))
s.settimeout(0.05)
print("listening", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    try:
        print(s.recv(65536).hex())
    except TimeoutError:
        pass
`;

const PYTHON = '/usr/bin/python3';

/** Sends frames from a host's eth0; returns how many the kernel took (it refuses some, such as empty ones). */
export async function sendFrames(host: Host, frames: readonly Uint8Array[]): Promise<number> {
  const input = frames.map((frame) => Buffer.from(frame).toString('hex')).join('\n');
  const { stdout } = await host.run(PYTHON, ['-c', SEND], { input });
  return Number(stdout);
}

/** Everything that crosses a host's eth0, in and out, while `during` goes on (at most `seconds`). */
export async function captureFrames(
  host: Host,
  seconds: number,
  during: () => Promise<void>,
): Promise<Buffer[]> {
  const [command, ...args] = host.inside([PYTHON, '-u', '-c', LISTEN, String(seconds)]);
  const heard = run(command ?? '', args, { timeoutMs: seconds * 1000 + 10_000 });
  await new Promise((resolve) => setTimeout(resolve, 150));
  await during();
  const { stdout } = await heard;
  return stdout
    .split('\n')
    .slice(1)
    .filter(Boolean)
    .map((line) => Buffer.from(line, 'hex'));
}

const ECHO = `
import os, socket, struct, sys, time
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(2)
ident = os.getpid() & 0xffff
body = struct.pack("!BBHHH", 8, 0, 0, ident, 1) + b"baton!"
s.sendto(body[:2] + struct.pack("!H", checksum(body)) + body[4:], (sys.argv[1], 0))
end = time.monotonic() + 2
while time.monotonic() < end:
    data, source = s.recvfrom(2048)
    if source[0] == sys.argv[1] and data[20] == 0 and data[24:26] == struct.pack("!H", ident):
        print("answered")
        break
`;

/** Whether an address answers an ICMP echo within 2 s. */
export async function answersPing(host: Host, address: string): Promise<boolean> {
  const { stdout } = await host.run(PYTHON, ['-c', ECHO, address], { allowFailure: true });
  return stdout.includes('answered');
}
