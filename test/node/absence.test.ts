import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { SHIM_NAMES, type ShimCounter } from '../../src/base/kernel-counters.js';
import type { InterfaceInfo } from '../../src/host/native.js';
import { Absence } from '../../src/node/absence.js';
import { Strangers } from '../../src/node/strangers.js';

const OWN = '10.99.0.3';
const there = {
  index: 7,
  up: true,
  addresses: [{ interface: 'eth0', address: addressNumber(OWN), prefix: 24 }],
} as unknown as InterfaceInfo;

function logged() {
  const lines: string[] = [];
  const log = {
    warn: (text: string) => void lines.push(`warn ${text}`),
    info: (text: string) => void lines.push(`info ${text}`),
  };
  return { log, said: () => lines.splice(0) };
}

t.test(
  'an absence is reported when it begins, regularly while it lasts, and when it is over',
  async (t) => {
    const { log, said } = logged();
    let now = 0;
    const absence = new Absence('eth0', 60_000, log, () => now);
    const look = (info: InterfaceInfo | undefined, seconds: number): string[] => {
      for (const end = now + seconds * 1_000; now < end; now += 5_000)
        absence.look(info, [addressNumber(OWN)]);
      return said();
    };
    t.same(look(there, 300), []);
    t.same(look(undefined, 150), [
      'warn interface eth0 is gone: no session can be handed over to this node',
      'warn interface eth0 is gone, for 60 s: no session can be handed over to this node',
      'warn interface eth0 is gone, for 120 s: no session can be handed over to this node',
    ]);
    t.same(look({ ...there, up: false }, 30), [
      'warn interface eth0 is down: no session can be handed over to this node',
    ]);
    t.same(look({ ...there, addresses: [] }, 30), [
      `warn interface eth0 has lost the address ${OWN}: no session can be handed over to this node`,
    ]);
    t.same(look(there, 30), ['info interface eth0 is back']);
  },
);

t.test(
  'dropped handoffs of unknown balancers or with another key are reported once a minute',
  async (t) => {
    const { log, said } = logged();
    let now = 0;
    const strangers = new Strangers([addressNumber('10.99.0.2')], log, () => now);
    const counters = Object.fromEntries(SHIM_NAMES.map((name) => [name, 0])) as Record<
      ShimCounter,
      number
    >;
    const look = (change: Partial<Record<ShimCounter, number>>, later: number): string[] => {
      now += later;
      Object.assign(counters, change);
      strangers.look(counters);
      return said();
    };
    t.same(look({}, 5_000), []);
    t.same(look({ drop_unknown_balancer: 3 }, 5_000), [
      'warn 3 handoff frames were dropped, from a balancer that is not in `balancers` (balancers in the config: 10.99.0.2)',
    ]);
    t.same(look({ drop_unknown_balancer: 5 }, 5_000), []);
    t.same(look({}, 60_000), [
      'warn 2 handoff frames were dropped, from a balancer that is not in `balancers` (balancers in the config: 10.99.0.2)',
    ]);
    t.match(look({ drop_tag: 1 }, 5_000), [
      /^warn 1 handoff frames were dropped, since their key is another one/,
    ]);
    t.same(look({}, 600_000), []);
  },
);
