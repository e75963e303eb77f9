/**
 * HAProxy and nginx as proxies, each twice: stock, with the plain configuration of a first start,
 * and tuned, as an operator would set them up for the highest speed with these answers.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Farm } from '../../lab/farm/farm.js';
import type { Host } from '../../lab/farm/host.js';
import type { Program } from '../../lab/farm/process.js';
import { run } from '../../lab/farm/process.js';

/** Limit of open files for HAProxy, if the machine allows raising it. */
export const OPEN_FILES = 131_072;
/** Limit of open files for nginx: two for each client, and temporary ones. */
const NGINX_FILES = 20_000;

export type ProxyId = 'haproxy' | 'haproxy-tuned' | 'nginx' | 'nginx-tuned';

export interface ProxyKind {
  id: ProxyId;
  name: string;
  /** The whole configuration, in words. */
  how: string;
  port: number;
  /** Port of the instance for long answers, if there is one. */
  longPort?: number;
}

export const PROXIES: readonly ProxyKind[] = [
  {
    id: 'haproxy',
    name: 'HAProxy',
    how: 'stock: `mode http`, timeouts (connect 5 s, client and server 50 s, as Debian sets them), `backlog 4096`, a `maxconn` that the open files allow, no log, and every other setting its default: a thread for each CPU, `http-reuse safe`, which results in one connection to the node for each client connection, buffers of 16 KB',
    port: 8081,
  },
  {
    id: 'haproxy-tuned',
    name: 'HAProxy tuned',
    how: '`mode http`, `nbthread` the number of CPUs, `backlog 4096`, the same `maxconn` as stock, no log, `http-reuse always` and `pool-max-conn -1`, so that all clients share connections to the node that are kept, client connections kept alive for 10 minutes. For answers of 64 KB and more there is a second one with `tune.bufsize 131072` and `tune.recv_enough 65536` in addition, which halves its cost for long answers and raises it for short ones',
    port: 8083,
    longPort: 8085,
  },
  {
    id: 'nginx',
    name: 'nginx',
    how: 'stock: `worker_processes auto`, `worker_connections 4096` and as many open files as these need, `listen` with `backlog=4096`, `proxy_pass` to the address of the node, `access_log off`, temporary files in a directory of its own, and every other setting its default: HTTP/1.0 to the node with one connection per request, 8 buffers of 4 KB, temporary files for data beyond these buffers, 1,000 requests on a client connection',
    port: 8082,
  },
  {
    id: 'nginx-tuned',
    name: 'nginx tuned',
    how: '`worker_processes` the number of CPUs, `worker_connections 8192`, `listen` with `backlog=4096 reuseport`, HTTP/1.1 to the node on connections that are kept (`keepalive 1024` for each worker), no limit of requests on these or on client connections, `proxy_buffers 16 64k`, `proxy_buffer_size 64k`, `proxy_busy_buffers_size 128k`, no temporary files, `access_log off`',
    port: 8084,
  },
];

/** Additional settings of the tuned HAProxy for long answers. */
const LONG = ['tune.bufsize 131072', 'tune.recv_enough 65536'];

function stockHaproxy(node: string, port: number, connections: number): string {
  return `global
  maxconn ${connections}
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
frontend www
  bind :${port} backlog 4096
  default_backend nodes
backend nodes
  server n2 ${node}:80
`;
}

function tunedHaproxy(
  node: string,
  port: number,
  connections: number,
  more: readonly string[],
): string {
  return `global
  maxconn ${connections}
  nbthread ${cpus().length}
${more.map((line) => `  ${line}\n`).join('')}defaults
  mode http
  timeout connect 5s
  timeout client 10m
  timeout server 1m
  timeout http-keep-alive 10m
  option http-keep-alive
  http-reuse always
frontend www
  bind :${port} backlog 4096
  default_backend nodes
backend nodes
  server n2 ${node}:80 pool-max-conn -1
`;
}

/** Settings with which nginx runs in a directory of its own. */
function nginxGlobals(directory: string, workers: string, connections: number): string {
  return `worker_processes ${workers};
worker_rlimit_nofile ${NGINX_FILES};
daemon off;
pid ${directory}/nginx.pid;
events { worker_connections ${connections}; }
`;
}

function nginxFiles(directory: string): string {
  return ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `  ${name}_temp_path ${directory}/${name};`)
    .join('\n');
}

function stockNginx(directory: string, node: string, port: number): string {
  return `${nginxGlobals(directory, 'auto', 4096)}http {
  access_log off;
${nginxFiles(directory)}
  server {
    listen ${port} backlog=4096;
    location / { proxy_pass http://${node}:80; }
  }
}
`;
}

function tunedNginx(directory: string, node: string, port: number): string {
  return `${nginxGlobals(directory, String(cpus().length), 8192)}http {
  access_log off;
  keepalive_timeout 65;
  keepalive_requests 100000000;
${nginxFiles(directory)}
  upstream nodes {
    server ${node}:80;
    keepalive 1024;
    keepalive_requests 100000000;
  }
  server {
    listen ${port} backlog=4096 reuseport;
    location / {
      proxy_pass http://nodes;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffers 16 64k;
      proxy_buffer_size 64k;
      proxy_busy_buffers_size 128k;
      proxy_max_temp_file_size 0;
    }
  }
}
`;
}

/**
 * Starts all proxies on the machine `proxy`. Resolves with the tuned HAProxy for short answers when
 * all proxies listen.
 */
export async function startProxies(farm: Farm, node: string): Promise<Program> {
  const host = farm.host('proxy');
  const files = await openFiles(OPEN_FILES);
  const connections = proxyConnections(files);
  const directoryOf = (name: string): string => {
    const directory = path.join(farm.directory, name);
    mkdirSync(directory, { mode: 0o755 });
    return directory;
  };
  const haproxy = async (name: string, port: number, config: string): Promise<Program> => {
    const file = path.join(directoryOf(name), 'haproxy.cfg');
    writeFileSync(file, config);
    const program = host.start(name, [...limited(files), 'haproxy', '-db', '-f', file]);
    await listens(host, program, port);
    return program;
  };
  const nginx = async (name: string, port: number, config: typeof stockNginx): Promise<void> => {
    const directory = directoryOf(name);
    const file = path.join(directory, 'nginx.conf');
    writeFileSync(file, config(directory, node, port));
    const program = host.start(name, ['nginx', '-e', `${directory}/error.log`, '-c', file]);
    await listens(host, program, port);
  };
  let measured: Program | undefined;
  for (const { id, port, longPort } of PROXIES) {
    if (id === 'nginx') await nginx(id, port, stockNginx);
    else if (id === 'nginx-tuned') await nginx(id, port, tunedNginx);
    else if (id === 'haproxy') await haproxy(id, port, stockHaproxy(node, port, connections));
    else measured = await haproxy(id, port, tunedHaproxy(node, port, connections, []));
    if (longPort !== undefined) {
      await haproxy(`${id}-long`, longPort, tunedHaproxy(node, longPort, connections, LONG));
    }
  }
  if (measured === undefined) throw new Error('the proxies include no tuned HAProxy');
  return measured;
}

/** Connections for this number of open files: each needs two, and some files are spare. */
export function proxyConnections(files: number): number {
  return Math.floor((files - 1000) / 2);
}

/** Files that a program may open on this machine when it asks for `most`. */
export async function openFiles(most: number): Promise<number> {
  const { code } = await run('prlimit', [`--nofile=${most}:${most}`, 'true'], {
    allowFailure: true,
  });
  if (code === 0) return most;
  const { stdout } = await run('prlimit', ['--nofile', '--output=HARD', '--noheadings']);
  return Math.min(most, Number(stdout.trim()) || 1024);
}

/** The command line that sets this limit of open files for the command behind it. */
export function limited(files: number): string[] {
  return ['prlimit', `--nofile=${files}:${files}`];
}

export async function listens(host: Host, program: Program, port: number): Promise<void> {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A`;
  for (let tries = 0; tries < 250 && program.running; tries++) {
    const { stdout } = await host.run('cat', ['/proc/net/tcp']);
    if (stdout.includes(local)) return;
    await sleep(20);
  }
  throw new Error(`${program.name} does not listen on port ${port}: ${program.log()}`);
}
