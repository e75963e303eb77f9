import t from 'tap';
import { KernelWatch, kernelFlags } from '../../src/host/kernel-options.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';

t.test('settings become flags of a report', async (t) => {
  const flagsWith = (off: string): number =>
    kernelFlags({ adopts: true, follows: false }, (setting) => (setting === `ipv4/${off}` ? 0 : 2));
  t.equal(flagsWith('nothing'), IxcpFlag.canAdopt);
  t.equal(flagsWith('tcp_timestamps'), IxcpFlag.canAdopt | IxcpFlag.noTimestamps);
  t.equal(flagsWith('tcp_sack'), IxcpFlag.canAdopt | IxcpFlag.noSack);
  t.equal(flagsWith('tcp_window_scaling'), IxcpFlag.canAdopt | IxcpFlag.noWindowScale);
  t.equal(flagsWith('tcp_syncookies'), IxcpFlag.noCookies);
});

t.test('the kernel itself becomes flags of a report', async (t) => {
  const flagsOf = (adopts: boolean, follows: boolean, cookies = 1): number =>
    kernelFlags({ adopts, follows }, (setting) =>
      setting === 'ipv4/tcp_syncookies' ? cookies : 1,
    );
  const follows = IxcpFlag.canLeave | IxcpFlag.canPark;
  t.equal(flagsOf(true, true), IxcpFlag.canAdopt | follows);
  t.equal(flagsOf(false, true), follows);
  t.equal(flagsOf(false, false), 0);
  t.equal(flagsOf(false, false, 0), 0, 'a kernel that cannot adopt needs no SYN cookies');
});

t.test('each change is logged once, in both directions', async (t) => {
  let flags: number | Error = IxcpFlag.canAdopt;
  const lines: string[] = [];
  let switchedOn = 0;
  const watch = new KernelWatch(
    async () => {
      switchedOn++;
      throw new Error('EROFS');
    },
    {
      warn: (text) => void lines.push(`warn ${text}`),
      info: (text) => void lines.push(`info ${text}`),
    },
    () => {
      if (flags instanceof Error) throw flags;
      return flags;
    },
  );
  const look = async (now: number | Error): Promise<string[]> => {
    flags = now;
    for (let i = 0; i < 3; i++) {
      watch.look();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return lines.splice(0);
  };
  t.same(await look(IxcpFlag.canAdopt), []);
  t.same(await look(IxcpFlag.canAdopt | IxcpFlag.noTimestamps | IxcpFlag.noSack), [
    'warn net.ipv4.tcp_timestamps is 0: balancers offer clients no timestamps while this node takes part',
    'warn net.ipv4.tcp_sack is 0: sessions on this node continue without selective acknowledgements',
  ]);
  t.same(await look(IxcpFlag.canAdopt), [
    'info net.ipv4.tcp_timestamps is on again',
    'info net.ipv4.tcp_sack is on again',
  ]);
  t.same(await look(IxcpFlag.noCookies), [
    'warn net.ipv4.tcp_syncookies is 0: this kernel cannot adopt sessions; switching it on',
    'warn cannot switch it on: EROFS',
  ]);
  t.equal(switchedOn, 3, 'each call tries again');
  t.same(await look(IxcpFlag.canAdopt), ['info net.ipv4.tcp_syncookies is on again']);
  t.same(await look(new Error('gone')), ['warn cannot tell what this kernel can adopt: gone']);
  t.equal(watch.look(), IxcpFlag.canAdopt, 'the flags of the last call');
});
