/**
 * Web servers of nodes: the distribution's own binaries with small, ordinary configs, a Node.js
 * application (app-server.ts), and Python's http.server.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Host } from '../farm/host.js';
import { type Program, PYTHON } from '../farm/process.js';
import { PATIENCE_MS } from '../patience.js';
import { type CertificateFiles, makeCertificate } from './certificates.js';

export interface WebOptions {
  server?: 'nginx' | 'apache' | 'node' | 'python';
  /** A port, or address:port. */
  listen?: string;
  /** Length of nginx's accept queue. Default: nginx's own, 511. */
  backlog?: number;
  /** Extra lines for nginx's server block, or for Apache's config. */
  extra?: string;
  /** A host name for which nginx or Apache closes the connection after each answer. */
  closing?: string;
  /** Host names for which nginx also speaks TLS on port 443, and HTTP/2 in it. */
  tls?: readonly string[];
}

export const APACHE = '/usr/sbin/apache2';
const APP_SERVER = fileURLToPath(new URL('./app-server.js', import.meta.url));

export class WebServer {
  readonly host: Host;
  /** It serves the files below this directory. */
  readonly root: string;
  /** Bodies of POST requests to /post: a file for each, stored by nginx. */
  readonly posted: string;
  private readonly directory: string;
  private readonly options: WebOptions;
  private readonly certificates: CertificateFiles | undefined;
  private program: Program | undefined;

  constructor(host: Host, farmDirectory: string, options: WebOptions = {}) {
    this.host = host;
    this.options = options;
    this.directory = path.join(farmDirectory, `web-${host.name}`);
    this.root = path.join(this.directory, 'html');
    this.posted = path.join(this.directory, 'posted');
    mkdirSync(this.root, { recursive: true });
    for (const name of ['tmp', 'posted', 'logs']) {
      mkdirSync(path.join(this.directory, name), { recursive: true, mode: 0o777 });
    }
    const { tls } = options;
    if (tls !== undefined)
      this.certificates = makeCertificate(this.directory, host.name, { hosts: tls });
  }

  /** The certificate of the server, which is its own issuer, in PEM. */
  get certificate(): string {
    if (this.certificates === undefined) throw new Error(`${this.host.name} speaks no TLS`);
    return this.certificates.certificate;
  }

  /** Puts a file below the root. */
  put(name: string, content: string | Uint8Array): void {
    const file = path.join(this.root, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
  }

  async start(): Promise<void> {
    const listen = this.options.listen ?? '80';
    this.program = this.host.start(this.programName, this.command(listen));
    await this.waitUntilListening(Number(listen.slice(listen.lastIndexOf(':') + 1)));
  }

  /** Stops it as an operator does: it closes its connections. */
  async stop(): Promise<void> {
    await this.program?.stop();
    this.program = undefined;
  }

  /** Sends a signal to the server and to its workers. */
  signal(name: NodeJS.Signals): void {
    const pid = this.program?.pid;
    if (pid === undefined) return;
    const workers = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .split(' ')
      .filter(Boolean);
    for (const one of [pid, ...workers]) process.kill(Number(one), name);
  }

  /** The Node.js server answers long polls when this file exists. */
  get release(): string {
    return path.join(this.directory, 'release');
  }

  /**
   * The request lines of its access log, in the order in which requests ended. A line is written
   * some time after the answer.
   */
  requests(): string[] {
    // Python writes its lines to standard error.
    const python = this.options.server === 'python';
    const file = python ? `${this.directory}/../${this.programName}.log` : this.accessLog;
    if (!existsSync(file)) {
      return [];
    }
    const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
    return lines.map((line) => line.split('"')[1] ?? '');
  }

  /** What nginx or Apache has complained about in its error log: warnings and worse. */
  complaints(): string[] {
    const file = path.join(this.directory, 'logs', 'error.log');
    if (!existsSync(file)) return [];
    const lines = readFileSync(file, 'utf8').split('\n');
    return lines.filter((line) => /[[:](warn|error|crit|alert|emerg)\]/.test(line));
  }

  /** The last body sent to /post, or undefined. */
  lastPosted(): Uint8Array | undefined {
    const names = readdirSync(this.posted, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.join(entry.parentPath, entry.name))
      .sort();
    const last = names.at(-1);
    return last === undefined ? undefined : readFileSync(last);
  }

  private get programName(): string {
    return `web-${this.host.name}`;
  }

  private get accessLog(): string {
    return path.join(this.directory, 'logs', 'access.log');
  }

  private command(listen: string): string[] {
    const { server = 'nginx' } = this.options;
    if (server === 'node')
      return [process.execPath, APP_SERVER, listen, this.root, this.accessLog, this.release];
    if (server === 'python')
      return [PYTHON, '-u', '-m', 'http.server', '--directory', this.root, listen];
    const config = path.join(this.directory, 'server.conf');
    writeFileSync(
      config,
      server === 'apache' ? this.apacheConfig(listen) : this.nginxConfig(listen),
    );
    if (server === 'apache') return [APACHE, '-f', config, '-DFOREGROUND'];
    return ['nginx', '-e', `${this.directory}/logs/error.log`, '-c', config, '-p', this.directory];
  }

  private async waitUntilListening(port: number): Promise<void> {
    const hex = port.toString(16).toUpperCase().padStart(4, '0');
    // State 0A is LISTEN.
    const listening = new RegExp(`:${hex} 0+:0000 0A`);
    for (const limit = Date.now() + PATIENCE_MS; Date.now() < limit; ) {
      const { stdout } = await this.host.run('cat', ['/proc/net/tcp', '/proc/net/tcp6']);
      if (listening.test(stdout)) {
        return;
      }
      if (this.program?.running !== true) {
        break;
      }
      await sleep(20);
    }
    throw new Error(`the web server of ${this.host.name} does not listen: ${this.program?.log()}`);
  }

  private nginxConfig(listen: string): string {
    const here = this.directory;
    const { closing } = this.options;
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((name) => `  ${name}_temp_path ${here}/tmp/${name};`)
      .join('\n');
    return `worker_processes 1;
daemon off;
pid ${here}/nginx.pid;
events { worker_connections 8192; }
http {
  types { text/html html; text/plain txt; }
  default_type application/octet-stream;
  sendfile on;
  keepalive_timeout 65;
  keepalive_requests 100000000;
  access_log ${here}/logs/access.log;
${temporary}
  server {
    listen ${listen}${this.options.backlog === undefined ? '' : ` backlog=${this.options.backlog}`};
    root ${this.root};
    location = /post {
      client_max_body_size 20m;
      client_body_in_file_only on;
      client_body_temp_path ${this.posted};
      proxy_pass http://unix:${here}/stored.sock:/;
      proxy_set_body stored;
    }
    ${this.tlsLines()}
    ${this.options.extra ?? ''}
  }
  ${closing === undefined ? '' : `server { listen ${listen}; server_name ${closing}; root ${this.root}; keepalive_timeout 0; }`}
  server {
    listen unix:${here}/stored.sock;
    location / { return 200 "stored by ${this.host.name}\\n"; }
  }
}
`;
  }

  private tlsLines(): string {
    if (this.certificates === undefined) return '';
    const { certificate, key } = this.certificates;
    return `listen 443 ssl http2;
    ssl_certificate ${certificate};
    ssl_certificate_key ${key};
    ssl_protocols TLSv1.2 TLSv1.3;`;
  }

  private apacheConfig(listen: string): string {
    const here = this.directory;
    const { closing } = this.options;
    // The first virtual host serves all other names.
    const hosts = `<VirtualHost *>
</VirtualHost>
<VirtualHost *>
ServerName ${closing}
KeepAlive Off
</VirtualHost>
`;
    const modules = ['mpm_event', 'authz_core'].map(
      (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
    );
    return `ServerRoot ${here}
ServerName ${this.host.name}
DefaultRuntimeDir ${here}/tmp
Mutex file:${here}/tmp default
PidFile ${here}/apache.pid
Listen ${listen}
${modules.join('\n')}
ErrorLog ${here}/logs/error.log
LogFormat "%h %l %u %t \\"%r\\" %>s %b" common
User www-data
Group www-data
DocumentRoot ${this.root}
KeepAliveTimeout 65
${this.options.extra ?? ''}
${closing === undefined ? '' : hosts}`;
  }
}
