/**
 * A machine whose kernel is too old or lacks a feature: the programs and `make` say so before
 * anything else. The old kernel is this kernel with another version and another list of functions,
 * which a mount namespace puts in place of its own.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const PROJECT = fileURLToPath(new URL('../../..', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'baton-kernel-'));
const LIST = join(directory, 'vmlinux');

/**
 * BTF with one type, `int`, and no function (Documentation/bpf/btf.rst of the kernel): a header of
 * 24 bytes, one record of 16, and strings.
 */
function listWithoutFunctions(): Buffer {
  const strings = Buffer.from('\0int\0', 'latin1');
  const btf = Buffer.alloc(24 + 16);
  btf.writeUInt16LE(0xeb9f, 0);
  btf.writeUInt8(1, 2);
  const fields = [24, 0, 16, 16, strings.length];
  for (const [index, value] of fields.entries()) btf.writeUInt32LE(value, 4 + 4 * index);
  const [NAME, KIND_INT, BYTES, SIGNED, BITS] = [1, 1, 4, 1, 32];
  const int = [NAME, KIND_INT << 24, BYTES, (SIGNED << 24) | BITS];
  for (const [index, value] of int.entries()) btf.writeUInt32LE(value, 24 + 4 * index);
  return Buffer.concat([btf, strings]);
}

const KERNELS = [
  {
    name: 'an old kernel',
    prepare: `mount --bind ${LIST} /sys/kernel/btf/vmlinux`,
    version: ['setarch', '--uname-2.6'],
    says: /kernel 2\.6\.\S+ is too old: Linux 5\.10 or newer is needed, for bpf_skc_to_tcp_sock/,
    remedy: /Debian 11/,
    adopting: {
      says: /kernel 2\.6\.\S+ is too old: Linux 6\.9 or newer is needed, for bpf_sk_assign_tcp_reqsk/,
      remedy: /bookworm-backports/,
    },
  },
  {
    name: 'a kernel that does not list its functions',
    prepare: 'mount -t tmpfs none /sys/kernel/btf',
    version: [],
    says: `kernel ${release()} does not list its functions: there is no /sys/kernel/btf/vmlinux`,
    remedy: /CONFIG_DEBUG_INFO_BTF/,
    adopting: {
      says: 'does not list its functions',
      remedy: /CONFIG_DEBUG_INFO_BTF/,
    },
  },
  {
    name: 'a kernel built without the function',
    prepare: `mount --bind ${LIST} /sys/kernel/btf/vmlinux`,
    version: [],
    says: `kernel ${release()} has no bpf_skc_to_tcp_sock`,
    remedy: /CONFIG_BPF_SYSCALL/,
    adopting: {
      says: `kernel ${release()} has no bpf_sk_assign_tcp_reqsk`,
      remedy: /CONFIG_SYN_COOKIES/,
    },
  },
] as const;

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'kernels that cannot run a node',
  { skip: process.getuid?.() === 0 ? false : 'mounting needs root' },
  async (t) => {
    writeFileSync(LIST, listWithoutFunctions());
    t.teardown(() => rmSync(directory, { recursive: true }));
    for (const { name, prepare, version, says, remedy, adopting } of KERNELS) {
      const there = (...command: string[]): { status: number | null; said: string } => {
        const inside = [
          '--mount',
          'sh',
          '-ec',
          `${prepare}; exec "$@"`,
          '-',
          ...version,
          ...command,
        ];
        const { status, stdout, stderr } = spawnSync('unshare', inside, {
          cwd: PROJECT,
          encoding: 'utf8',
        });
        return { status, said: stdout + stderr };
      };
      t.test(name, async (t) => {
        const baton = [process.execPath, 'bin/baton.js'];
        const none = join(directory, 'none.yaml');
        // There is no config: a node checks the kernel first.
        const node = there(...baton, 'node', '-c', none);
        t.equal(node.status, 1);
        t.match(node.said, says);
        t.match(node.said, remedy);
        t.equal(node.said.trimEnd().split('\n').length, 1, 'one line');
        const balancer = there(...baton, 'balancer', '-c', none);
        t.match(balancer.said, /none\.yaml: cannot be read/, 'a balancer needs no such function');
        for (const [target, need] of [
          ['demo', { says, remedy }],
          ['demo-keep', { says, remedy }],
          ['test', adopting],
          ['bench', adopting],
        ] as const) {
          const { status, said } = there('make', target);
          t.equal(status, 2, `make ${target}`);
          t.match(said, need.says, `make ${target}`);
          t.match(said, need.remedy, `make ${target}`);
          t.notMatch(said, /setup: (installing|missing)/, `make ${target}: nothing is installed`);
        }
        const warning = there('scripts/check-kernel.sh', '--warn');
        t.equal(warning.status, 0);
        t.match(warning.said, /^setup: warning: this machine cannot run Baton/);
        t.match(warning.said, remedy);
        for (const target of ['build', 'setup']) {
          t.match(
            there('make', '-n', target).said,
            /^scripts\/check-kernel\.sh --warn\n/,
            `make ${target} warns first`,
          );
        }
      });
    }
  },
);

t.test('a kernel that can run Baton: no message', async (t) => {
  const { status, stdout, stderr } = spawnSync('scripts/check-kernel.sh', {
    cwd: PROJECT,
    encoding: 'utf8',
  });
  t.same({ status, said: stdout + stderr }, { status: 0, said: '' });
});
