/**
 * Writes docs/configuration.md from the schemas of the config files, so that the page and the
 * program always agree. Run it from the source directory after changing a schema:
 *
 *     node dist/scripts/config-docs.js
 */
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { BalancerFile, NodeFile } from '../src/config/schema.js';

/** The parts of a JSON schema that the page shows. */
interface Schema {
  type: string;
  description?: string;
  expected?: string;
  default?: unknown;
  /** The default of a key that only some entries may have. */
  fallback?: unknown;
  anyOf?: Schema[];
  enum?: string[];
  format?: string;
  minimum?: number;
  maximum?: number;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
}

const FILE = 'docs/configuration.md';

const INTRODUCTION = `# Configuration

Start from one of the examples below, and check your file with \`baton check -c FILE\`. The command
runs nothing, and lists every mistake by line, column and key. The tables say what each key means.

- A config file is YAML. A key that is not on this page is an error, and so is a key that occurs
  twice.
- Paths of files are relative to the config file.
- Durations carry their unit: \`300ms\`, \`10s\`, \`15m\`, \`24h\`.
- Addresses are IPv4 or IPv6. An IPv6 address has its usual form (RFC 5952).

\`node dist/scripts/config-docs.js\` generates this page from src/config/schema.ts.
`;

const BALANCER_EXAMPLE = `\`\`\`yaml
interface: eth0
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
  - name: n2
    address: 10.99.0.4
  - name: n3
    address: 10.99.0.5
resources:
  - path: /images/
    nodes: [n1, n2]
  - path: /
    nodes: [n3]
\`\`\`
`;

const NODE_EXAMPLE = `\`\`\`yaml
interface: eth0
keyFile: key.hex
virtualAddresses: [10.99.0.100]
balancers: [10.99.0.2]
\`\`\`
`;

/** The text of docs/configuration.md. */
export function renderConfigDocs(): string {
  return [
    INTRODUCTION,
    '## A balancer: `baton balancer -c balancer.yaml`\n',
    BALANCER_EXAMPLE,
    ...tables(BalancerFile as unknown as Schema, 'Keys of balancer.yaml'),
    '## A node: `baton node -c node.yaml`\n',
    NODE_EXAMPLE,
    ...tables(NodeFile as unknown as Schema, 'Keys of node.yaml'),
  ].join('\n');
}

/** The table of one map, followed by the tables of the maps inside it. */
function tables(schema: Schema, title: string): string[] {
  const rows = ['| key | type | default | meaning |', '| --- | --- | --- | --- |'];
  const inner: string[] = [];
  for (const [key, property] of Object.entries(schema.properties ?? {})) {
    const required = schema.required?.includes(key) === true;
    rows.push(
      `| \`${key}\` | ${typeOf(property)} | ${defaultOf(property, required)} | ${property.description} |`,
    );
    if (property.properties !== undefined) inner.push(...tables(property, `Keys of \`${key}\``));
    if (property.items?.properties !== undefined) {
      inner.push(...tables(property.items, `Keys of each entry of \`${key}\``));
    }
  }
  return [`### ${title}\n`, `${rows.join('\n')}\n`, ...inner];
}

/** Formats of addresses (config/formats.ts). */
const ADDRESSES: readonly string[] = ['ipv4-unicast', 'ip-unicast', 'ip-host'];

function typeOf(schema: Schema): string {
  if (schema.anyOf !== undefined) return 'port, text or list';
  if (schema.enum !== undefined) return schema.enum.map((name) => `\`${name}\``).join(', ');
  if (schema.type === 'array')
    return schema.items?.properties === undefined ? `list of ${plural(schema)}` : 'list of maps';
  if (schema.type === 'object') return 'map';
  if (schema.type === 'integer') return `${schema.minimum} to ${schema.maximum}`;
  if (schema.format === 'duration') return 'duration';
  if (ADDRESSES.includes(schema.format ?? '')) return 'address';
  if (schema.format === 'listener') return 'address:port';
  return 'text';
}

function plural(schema: Schema): string {
  return ADDRESSES.includes(schema.items?.format ?? '') ? 'addresses' : 'names';
}

function defaultOf(schema: Schema, required: boolean): string {
  if (schema.type === 'object' && schema.default !== undefined) return 'see below';
  const fallback = schema.default ?? schema.fallback;
  if (Array.isArray(fallback)) return 'an empty list';
  if (fallback !== undefined) return `\`${String(fallback)}\``;
  return required ? '**required**' : '';
}

if (argv[1] !== undefined && resolve(argv[1]) === fileURLToPath(import.meta.url)) {
  writeFileSync(FILE, renderConfigDocs());
}
