/** Connections one after the other from the same client port. */
import type { Host } from '../farm/host.js';
import { PYTHON } from '../farm/process.js';

/**
 * Arguments: address, path, client port, count. The server closes first, so the port is free again
 * as soon as the client's own FIN is acknowledged.
 */
const IN_A_ROW = `
import socket, sys, time
address, path, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def connect():
    while True:
        try:
            return socket.create_connection((address, 80), 20, ("", port))
        except OSError as error:
            if error.strerror is None or "ddress" not in error.strerror: raise
            time.sleep(0.005)
for _ in range(count):
    with connect() as s:
        s.sendall(f"GET {path} HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n".encode())
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    print(answer[9:12].decode())
`;

/**
 * Makes `count` connections from one client port, each right after the one before. Returns the
 * distinct status codes of their answers.
 */
export async function statusesInARow(
  host: Host,
  address: string,
  requestPath: string,
  port: number,
  count: number,
): Promise<string[]> {
  const args = ['-c', IN_A_ROW, address, requestPath, String(port), String(count)];
  const { stdout } = await host.run(PYTHON, args);
  return [...new Set(stdout.split('\n').filter(Boolean))];
}
