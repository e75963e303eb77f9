import { existsSync } from 'node:fs';
import t from 'tap';
import { ADOPT_FUNCTION, kernelFault, requireAdoption } from '../../src/host/kernel.js';

t.test('the error says what the kernel lacks and what to install', async (t) => {
  const tooOld = {
    code: 'BATON_KERNEL',
    message: /is too old: Linux 6\.9 or newer is needed/,
    hint: /bookworm-backports/,
  };
  for (const version of ['5.10.0-34-amd64', '6.1.0-18-amd64', '6.8.12', '4.19.0', '2.6.78-fc']) {
    t.match(kernelFault(version, true, ADOPT_FUNCTION), tooOld, version);
    t.match(kernelFault(version, false, ADOPT_FUNCTION), tooOld, `${version} without BTF`);
  }
  for (const version of ['6.9.0', '6.10.1-amd64', '6.12.95+deb12-amd64', '7.0.0-rc1', '10.0.3']) {
    t.match(kernelFault(version, false, ADOPT_FUNCTION), {
      message: `kernel ${version} does not list its functions: there is no /sys/kernel/btf/vmlinux`,
      hint: /CONFIG_DEBUG_INFO_BTF/,
    });
    t.match(kernelFault(version, true, ADOPT_FUNCTION), {
      message: `kernel ${version} has no bpf_sk_assign_tcp_reqsk`,
      hint: /CONFIG_SYN_COOKIES/,
    });
  }
});

t.test('a kernel without the function is refused', async (t) => {
  t.throws(() => requireAdoption('bpf_no_such_function'), {
    code: 'BATON_KERNEL',
    message: /bpf_no_such_function/,
  });
  const described = existsSync('/sys/kernel/btf/vmlinux');
  t.test(
    'a kernel with the function is accepted',
    { skip: described ? false : 'this kernel does not describe itself' },
    async (t) => {
      t.doesNotThrow(() => requireAdoption('schedule'));
    },
  );
});
