/** Config files for tests, and what is said about them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { BatonError } from '../../src/base/errors.js';

export const directory = mkdtempSync(join(tmpdir(), 'baton-config-'));
t.teardown(() => rmSync(directory, { recursive: true }));
export const FILE = join(directory, 'baton.yaml');

export const BALANCER = `interface: eth0
datapath: packet
keyFile: key.hex
controlSocket: baton.sock
virtualServers:
  - name: www
    address: 10.99.0.100
    port: 80
    predictor: least-connections
nodes:
  - name: n1
    address: 10.99.0.3
    weight: 1
  - name: n2
    address: 10.99.0.4
resources:
  - path: /images/
    nodes: [n2, n1]
  - path: /
    nodes: [n1]
`;
export const NODE = `interface: eth0
keyFile: /etc/baton/key.hex
virtualAddresses: [10.99.0.100]
balancers: [10.99.0.2]
`;

/** Lines of what `load` says about `text`, without the file's name. */
export function problems(load: (file: string) => unknown, text: string | Uint8Array): string[] {
  writeFileSync(FILE, text);
  try {
    load(FILE);
  } catch (error) {
    if (!(error instanceof BatonError) || error.code !== 'BATON_CONFIG') throw error;
    return error
      .toLine()
      .split('\n')
      .map((line) => line.replace(`${FILE}:`, ''));
  }
  return [];
}

/** `BALANCER` with one piece replaced. */
export function changed(piece: string, replacement: string, text = BALANCER): string {
  if (!text.includes(piece)) throw new Error(`no ${piece}`);
  return text.replace(piece, replacement);
}
