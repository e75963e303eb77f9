/** Debian's servers of other protocols than HTTP on nodes, each with a small config of its own. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Host } from '../farm/host.js';
import type { Program } from '../farm/process.js';
import { PATIENCE_MS } from '../patience.js';

const VSFTPD = '/usr/sbin/vsftpd';
const SSHD = '/usr/sbin/sshd';
const EXIM = '/usr/sbin/exim4';
const INETD = '/usr/sbin/inetutils-inetd';
const TELNETD = '/usr/sbin/telnetd';
const REDIS = '/usr/bin/redis-server';
const CLIENTS = ['/usr/bin/ssh', '/usr/bin/ssh-keygen', '/usr/bin/telnet', '/usr/bin/redis-cli'];

/** Why a farm cannot have these servers and their clients; false when it can. */
export function whyNoDaemons(): string | false {
  const needed = [VSFTPD, SSHD, EXIM, INETD, TELNETD, REDIS, ...CLIENTS];
  const missing = needed.find((file) => !existsSync(file));
  return missing !== undefined && `needs ${missing}`;
}

/** Ports on which an FTP server accepts data connections. */
export interface PassivePorts {
  readonly from: number;
  readonly to: number;
}

/** The servers of one node. Each knows the name of its node. */
export class Daemons {
  readonly host: Host;
  private readonly directory: string;

  constructor(host: Host, farmDirectory: string) {
    this.host = host;
    this.directory = path.join(farmDirectory, `daemons-${host.name}`);
    mkdirSync(this.directory, { recursive: true });
  }

  /**
   * vsftpd, for anonymous users. It tells clients to open data connections to `address`.
   * @param files by name
   */
  async startFtp(
    address: string,
    ports: PassivePorts,
    files: Readonly<Record<string, Uint8Array | string>>,
  ): Promise<Program> {
    const root = this.make('ftp');
    for (const [name, content] of Object.entries(files))
      writeFileSync(path.join(root, name), content);
    const config = this.write(
      'vsftpd.conf',
      `listen=YES
background=NO
anonymous_enable=YES
anon_root=${root}
no_anon_password=YES
ftpd_banner=${this.host.name}
secure_chroot_dir=${this.make('empty')}
seccomp_sandbox=NO
pasv_address=${address}
pasv_min_port=${ports.from}
pasv_max_port=${ports.to}
`,
    );
    return await this.start('ftp', [VSFTPD, config], 21);
  }

  /**
   * OpenSSH, which lets root in with the key of `client`. In a mount namespace of its own, because
   * it wants a directory below /run.
   */
  async startSsh(publicKey: string): Promise<Program> {
    const key = path.join(this.directory, 'host-key');
    await this.host.run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    const allowed = this.write('authorized_keys', publicKey);
    const config = this.write(
      'sshd_config',
      `HostKey ${key}
AuthorizedKeysFile ${allowed}
StrictModes no
UsePAM no
PidFile none
PermitRootLogin prohibit-password
SetEnv NODE=${this.host.name}
`,
    );
    const script = `mount -t tmpfs none /run && mkdir /run/sshd && exec ${SSHD} -D -e -f ${config}`;
    return await this.start('ssh', ['unshare', '--mount', 'sh', '-c', script], 22);
  }

  /** Exim, which takes mail for ${node}.example.org and keeps it in its queue. */
  async startSmtp(): Promise<Program> {
    const spool = this.make('spool');
    const config = this.write(
      'exim.conf',
      `primary_hostname = ${this.host.name}.example.org
spool_directory = ${spool}
log_file_path = ${spool}/%slog
exim_user = root
exim_group = root
never_users =
queue_only
acl_smtp_rcpt = accept
begin acl
begin routers
begin transports
`,
    );
    const argv = [EXIM, '-C', config, '-bdf', '-oX', '25', '-oP', `${spool}/exim.pid`];
    return await this.start('smtp', argv, 25);
  }

  /** The texts of the mails that the SMTP server has taken. */
  mails(): string[] {
    const input = path.join(this.directory, 'spool', 'input');
    if (!existsSync(input)) return [];
    return readdirSync(input, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('-D'))
      .map((name) => readFileSync(path.join(input, name), 'utf8'));
  }

  /**
   * telnetd behind inetd. In place of a login it runs a script that repeats a line, and ends
   * with the next one.
   */
  async startTelnet(): Promise<Program> {
    const login = this.write(
      'login',
      `#!/bin/sh
echo "welcome to ${this.host.name}"
read -r line
echo "${this.host.name} got $line"
# telnetd drops what its client has not got when this script ends.
read -r line
`,
      0o755,
    );
    const telnetd = `telnet stream tcp nowait root ${TELNETD} telnetd -h -E ${login}\n`;
    const config = this.write('inetd.conf', telnetd);
    return await this.start('telnet', [INETD, '-d', '-p', config], 23);
  }

  /** Redis, with its node's name under the key `node`. */
  async startRedis(): Promise<Program> {
    const plain = ['--save', '', '--appendonly', 'no', '--protected-mode', 'no'];
    const program = await this.start('redis', [REDIS, '--port', '6379', ...plain], 6379);
    await this.host.run('redis-cli', ['set', 'node', this.host.name]);
    return program;
  }

  private async start(name: string, argv: string[], port: number): Promise<Program> {
    const program = this.host.start(`${name}-${this.host.name}`, argv);
    const hex = port.toString(16).toUpperCase().padStart(4, '0');
    const listening = new RegExp(`:${hex} 0+:0000 0A`);
    for (const limit = Date.now() + PATIENCE_MS; Date.now() < limit && program.running; ) {
      const { stdout } = await this.host.run('cat', ['/proc/net/tcp', '/proc/net/tcp6']);
      if (listening.test(stdout)) return program;
    }
    throw new Error(`${name} of ${this.host.name} does not listen: ${program.log()}`);
  }

  private make(name: string): string {
    const directory = path.join(this.directory, name);
    mkdirSync(directory, { mode: 0o755 });
    return directory;
  }

  private write(name: string, text: string, mode = 0o644): string {
    const file = path.join(this.directory, name);
    writeFileSync(file, text, { mode });
    return file;
  }
}
