/**
 * A node with an older kernel: a virtual machine that takes the place of a node of a farm, with its
 * name and addresses. QEMU emulates it, so it needs no hardware for virtual machines.
 *
 *     n1's namespace: eth0 is down              qemu, in the switch's namespace
 *                                               Linux 6.1, nginx, the agent
 *     ---+--------------------------------------------+---  br0, through a tap
 *
 * It boots from two images, which are made for each machine: an initial file system with a shell
 * and the kernel's modules, and a disk with this checkout's Baton, its Node.js, nginx and the files
 * to serve. The console is its log.
 */
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from './baton.js';
import { KEY_FILE, nodeYaml } from './configs.js';
import type { Farm } from './farm.js';
import { type Program, run } from './process.js';

/** Linux and busybox, which scripts/old-kernel.sh has put there. */
const KERNEL = path.join(projectRoot(), '.kernel');
const QEMU = '/usr/bin/qemu-system-x86_64';
const NGINX = '/usr/sbin/nginx';
const IP = '/bin/ip';
const MEMORY_MB = 512;
/** A disk has room for this beside its files, in MB. */
const SPARE_MB = 60;
/** An emulated machine needs some 20 s of a processor to begin its work. */
const BOOT_MS = 240_000;
const TAP = 'old';

/** Why there can be no machine with an older kernel; false when there can. For tap's `skip`. */
export function whyNoOldMachine(): string | false {
  if (!existsSync(QEMU)) return `needs ${QEMU}`;
  if (!existsSync(path.join(KERNEL, 'vmlinuz'))) return 'needs Linux 6.1: scripts/old-kernel.sh';
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun';
  if (!existsSync('/usr/sbin/mke2fs')) return 'needs mke2fs';
  return false;
}

/**
 * Starts a machine in place of the node with this index, and waits until its agent is ready.
 * @param files what its nginx serves, by path
 */
export async function startOldMachine(
  farm: Farm,
  index: number,
  files: Record<string, string | Uint8Array>,
): Promise<Program> {
  const node = farm.nodes[index]!;
  const directory = path.join(farm.directory, `old-${node.name}`);
  const at = (name: string): string => path.join(directory, name);
  makeInitial(at('initial'), node.address);
  const pack = 'cd "$0" && find . | ./bin/busybox cpio -o -H newc > ../initial.cpio';
  await run('sh', ['-c', pack, at('initial')]);
  await makeRoot(farm, at('root'), files);
  const { stdout } = await run('du', ['-sm', at('root')]);
  const size = Number.parseInt(stdout, 10) + SPARE_MB;
  const form = ['-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', at('root')];
  await run('mke2fs', [...form, at('disk'), `${size}M`]);

  await node.setLink(false);
  const bridge = [
    `ip tuntap add dev ${TAP} mode tap`,
    `ip link set ${TAP} master br0 up`,
    `exec "$@"`,
  ].join('; ');
  const kernel = ['-kernel', path.join(KERNEL, 'vmlinuz'), '-initrd', at('initial.cpio')];
  const machine = ['-M', 'q35', '-accel', 'tcg', '-m', String(MEMORY_MB), '-no-reboot'];
  const program = farm.startAtSwitch(`old-${node.name}`, [
    'sh',
    '-c',
    bridge,
    '-',
    QEMU,
    ...machine,
    ...['-display', 'none', '-serial', 'stdio', '-monitor', 'none'],
    ...kernel,
    ...['-append', 'console=ttyS0 quiet panic=-1'],
    ...['-drive', `file=${at('disk')},if=virtio,format=raw`],
    ...['-netdev', `tap,id=net,ifname=${TAP},script=no,downscript=no`],
    ...['-device', `virtio-net-pci,netdev=net,mac=${node.mac},romfile=`],
  ]);
  await program.waitForLog(/is ready for/, BOOT_MS);
  return program;
}

/** The shell and modules, and what it does first. */
function makeInitial(directory: string, address: string): void {
  for (const name of ['bin', 'proc', 'sys', 'dev', 'mnt', 'modules'])
    mkdirSync(path.join(directory, name), { recursive: true });
  cpSync(path.join(KERNEL, 'busybox'), path.join(directory, 'bin/busybox'));
  cpSync(path.join(KERNEL, 'modules'), path.join(directory, 'modules'), { recursive: true });
  // Each needs those before it.
  const modules = [
    ...['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci'],
    ...['failover', 'net_failover', 'virtio_net', 'virtio_blk', 'sch_ingress', 'cls_bpf'],
  ];
  const init = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in ${modules.join(' ')}; do insmod /modules/$module.ko; done
mount -t ext4 /dev/vda /mnt
mount -t proc proc /mnt/proc
mount -t sysfs sys /mnt/sys
mount -t bpf bpf /mnt/sys/fs/bpf
mount -t devtmpfs dev /mnt/dev
mount -t tmpfs run /mnt/run
export PATH=/bin:/usr/bin:/usr/sbin
ip link set lo up
ip address add ${address}/24 dev eth0
ip link set eth0 up
uname -r
chroot /mnt /usr/sbin/nginx -c /etc/nginx.conf
chroot /mnt /usr/bin/node --input-type=module -e '${AGENT}'
poweroff -f
`;
  writeFileSync(path.join(directory, 'init'), init, { mode: 0o755 });
}

/** The command line needs modules of its own, which would take an emulated processor 20 s more. */
const AGENT = `
const { runNode } = await import("/baton/dist/src/node/run.js");
process.exitCode = await runNode("/etc/node.yaml");`.replaceAll('\n', ' ');

/** The files of the disk. */
async function makeRoot(
  farm: Farm,
  root: string,
  files: Record<string, string | Uint8Array>,
): Promise<void> {
  const project = projectRoot();
  const inRoot = (name: string): string => path.join(root, name);
  const made = ['proc', 'sys', 'dev', 'run', 'tmp', 'etc', 'www', 'usr/bin', 'usr/sbin', 'bin'];
  for (const name of [...made, 'var/log/nginx', 'var/lib/nginx', 'baton/build/Release'])
    mkdirSync(inRoot(name), { recursive: true });
  const addon = path.join(project, 'build/Release/baton.node');
  const { stdout } = await run('ldd', [process.execPath, addon, NGINX, IP]);
  for (const [library] of stdout.matchAll(/\/\S+\.so\S*/g)) {
    mkdirSync(path.dirname(inRoot(library)), { recursive: true });
    copyFileSync(library, inRoot(library));
  }
  cpSync(process.execPath, inRoot('usr/bin/node'));
  cpSync(NGINX, inRoot('usr/sbin/nginx'));
  copyFileSync(IP, inRoot('bin/ip'));
  cpSync(path.join(KERNEL, 'busybox'), inRoot('bin/busybox'));
  cpSync(addon, inRoot('baton/build/Release/baton.node'));
  cpSync(path.join(project, 'build/bpf'), inRoot('baton/build/bpf'), { recursive: true });
  cpSync(path.join(project, 'dist/src'), inRoot('baton/dist/src'), { recursive: true });
  cpSync(path.join(project, 'package.json'), inRoot('baton/package.json'));
  const list = 'cd "$0" && "$1" scripts/production-modules.mjs';
  const modules = await run('sh', ['-c', list, project, process.execPath]);
  for (const module of modules.stdout.trim().split('\n'))
    cpSync(path.join(project, module), inRoot(path.join('baton', module)), { recursive: true });
  cpSync(path.join(farm.directory, KEY_FILE), inRoot(`etc/${KEY_FILE}`));
  writeFileSync(inRoot('etc/node.yaml'), nodeYaml(false, {}));
  writeFileSync(inRoot('etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  writeFileSync(inRoot('etc/group'), 'root:x:0:\n');
  writeFileSync(inRoot('etc/nginx.conf'), NGINX_CONFIG);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(inRoot(`www/${name}`)), { recursive: true });
    writeFileSync(inRoot(`www/${name}`), content);
  }
  if (readdirSync(inRoot('www')).length === 0) throw new Error('there is nothing to serve');
}

const NGINX_CONFIG = `user root root;
pid /run/nginx.pid;
error_log /dev/console warn;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  server {
    listen 80;
    root /www;
    location /old/put/ {
      dav_methods PUT;
      create_full_put_path on;
      client_max_body_size 64m;
    }
  }
}
`;
