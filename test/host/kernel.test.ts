import { existsSync } from 'node:fs';
import { release } from 'node:os';
import t from 'tap';
import {
  ADOPT_FUNCTION,
  kernelFault,
  LOOP_FUNCTION,
  SHIM_FUNCTION,
  shimKernel,
} from '../../src/host/kernel.js';

t.test('the error says what the kernel lacks and what to install', async (t) => {
  const tooOld = {
    code: 'BATON_KERNEL',
    message: /is too old: Linux 5\.10 or newer is needed/,
    hint: /Debian 11/,
  };
  for (const version of ['5.9.16', '5.4.0-200-generic', '4.19.0', '2.6.78-fc']) {
    t.match(kernelFault(version, true, SHIM_FUNCTION), tooOld, version);
    t.match(kernelFault(version, false, SHIM_FUNCTION), tooOld, `${version} without BTF`);
  }
  for (const version of ['5.10.0-34-amd64', '6.1.0-18-amd64', '6.12.95+deb12-amd64', '10.0.3']) {
    t.match(kernelFault(version, false, SHIM_FUNCTION), {
      message: `kernel ${version} does not list its functions: there is no /sys/kernel/btf/vmlinux`,
      hint: /CONFIG_DEBUG_INFO_BTF/,
    });
    t.match(kernelFault(version, true, SHIM_FUNCTION), {
      message: `kernel ${version} has no bpf_skc_to_tcp_sock`,
      hint: /CONFIG_BPF_SYSCALL/,
    });
  }
});

t.test('the functions of a kernel decide how a node takes sessions', async (t) => {
  const having = (...names: string[]) => shimKernel((name) => names.includes(name));
  t.same(having(SHIM_FUNCTION), { adopts: false, follows: false });
  t.same(having(SHIM_FUNCTION, LOOP_FUNCTION), { adopts: false, follows: true });
  t.same(having(SHIM_FUNCTION, LOOP_FUNCTION, ADOPT_FUNCTION), { adopts: true, follows: true });
  t.throws(() => having(LOOP_FUNCTION, ADOPT_FUNCTION), {
    code: 'BATON_KERNEL',
    message: new RegExp(`^kernel ${release().replaceAll('.', '\\.')} `),
  });
  const described = existsSync('/sys/kernel/btf/vmlinux');
  t.test(
    'this kernel is asked',
    { skip: described ? false : 'this kernel does not describe itself' },
    async (t) => t.doesNotThrow(() => shimKernel()),
  );
});
