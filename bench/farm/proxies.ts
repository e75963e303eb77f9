/**
 * HAProxy and nginx as proxies, set up as an operator who wants the most of them would: no logs, connections
 * to the node kept and reused, no temporary files. What was tried besides is told in docs/benchmarks.md.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../test/support/farm/process.js';
import type { Farm, Host, Program } from '../../test/support/farm.js';

export const HAPROXY_PORT = 8081;
/** The HAProxy with large buffers. */
export const HAPROXY_LONG_PORT = 8083;
export const NGINX_PORT = 8082;
/** Open files that HAProxy is allowed, where the machine lets it be raised. */
export const OPEN_FILES = 131_072;

export const HAPROXY_HOW =
  'a thread for each CPU, HTTP mode, `http-reuse always`, no log; for answers of 64 KB and more a second one with `tune.bufsize 131072` and `tune.recv_enough 65536`, which halves what they cost it and costs more for short ones';
/** Options of that second one. */
const LONG = ['tune.bufsize 131072', 'tune.recv_enough 65536'];
export const NGINX_HOW =
  'a worker for each CPU, 1,024 connections to the node kept alive by each, no access log, no temporary files';

function haproxyConfig(node: string, port: number, connections: number, more: readonly string[]): string {
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

function nginxConfig(directory: string, node: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `  ${name}_temp_path ${directory}/${name};`)
    .join('\n');
  return `worker_processes ${cpus().length};
worker_rlimit_nofile 20000;
daemon off;
pid ${directory}/nginx.pid;
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_timeout 65;
  keepalive_requests 100000000;
${temporary}
  upstream nodes {
    server ${node}:80;
    keepalive 1024;
    keepalive_requests 100000000;
  }
  server {
    listen ${NGINX_PORT} backlog=4096 reuseport;
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

/** Starts all on the machine `proxy`; resolves with the HAProxy of HAPROXY_PORT when they listen. */
export async function startProxies(farm: Farm, node: string): Promise<Program> {
  const host = farm.host('proxy');
  const directory = path.join(farm.directory, 'proxy');
  mkdirSync(directory, { mode: 0o755 });
  const files = await openFiles(OPEN_FILES);
  const haproxy = async (name: string, port: number, more: readonly string[]): Promise<Program> => {
    const file = path.join(directory, `${name}.cfg`);
    writeFileSync(file, haproxyConfig(node, port, proxyConnections(files), more));
    const program = host.start(name, [...limited(files), 'haproxy', '-db', '-f', file]);
    await listens(host, program, port);
    return program;
  };
  const nginxFile = path.join(directory, 'nginx.conf');
  writeFileSync(nginxFile, nginxConfig(directory, node));
  const nginx = host.start('nginx', ['nginx', '-e', `${directory}/error.log`, '-c', nginxFile]);
  await listens(host, nginx, NGINX_PORT);
  await haproxy('haproxy-long', HAPROXY_LONG_PORT, LONG);
  return haproxy('haproxy', HAPROXY_PORT, []);
}

/** How many connections that is: two files of each, and some to spare. */
export function proxyConnections(files: number): number {
  return Math.floor((files - 1000) / 2);
}

/** How many files a program may open here when it asks for `most`. */
export async function openFiles(most: number): Promise<number> {
  const { code } = await run('prlimit', [`--nofile=${most}:${most}`, 'true'], { allowFailure: true });
  if (code === 0) return most;
  const { stdout } = await run('prlimit', ['--nofile', '--output=HARD', '--noheadings']);
  return Math.min(most, Number(stdout.trim()) || 1024);
}

/** The command line that lets what follows open so many files. */
export function limited(files: number): string[] {
  return ['prlimit', `--nofile=${files}:${files}`];
}

async function listens(host: Host, program: Program, port: number): Promise<void> {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A`;
  for (let tries = 0; tries < 250 && program.running; tries++) {
    const { stdout } = await host.run('cat', ['/proc/net/tcp']);
    if (stdout.includes(local)) return;
    await sleep(20);
  }
  throw new Error(`${program.name} does not listen on port ${port}: ${program.log()}`);
}
