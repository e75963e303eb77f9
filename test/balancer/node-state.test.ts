/** A node's condition and the reason for it: each row has the facts, the condition and the text. */
import t from 'tap';
import { type NodeFacts, nodeStatus } from '../../src/balancer/node-state.js';
import { Outcome, Way } from '../../src/directory/node-memory.js';
import { requireAddress } from '../../src/wire/address.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';

const SERVERS = [
  { slot: 0, name: 'www', address: requireAddress('10.99.0.100'), port: 80 },
  { slot: 1, name: 'api', address: requireAddress('10.99.0.101'), port: 8080 },
];

type Server = readonly [lacks: number, outcome: number];
const ADOPTED: Server = [0, Outcome.adopted];
const UNTRIED: Server = [0, Outcome.none];
const REFUSED: Server = [0, IxcpReason.noListener];
const LACKING: Server = [1, Outcome.none];
const of = (...servers: Server[]): Pick<NodeFacts, 'lacks' | 'outcomes' | 'unadoptable'> => ({
  unadoptable: new Uint8Array(servers.length),
  lacks: Uint8Array.from(servers, ([lacks]) => lacks),
  outcomes: Uint8Array.from(servers, ([, outcome]) => outcome),
});

const UP: NodeFacts = {
  resolved: true,
  whyUnresolved: '',
  settled: true,
  needsAgent: true,
  reportAgeMs: 400,
  otherKey: false,
  flags: IxcpFlag.canAdopt,
  failed: false,
  suspended: false,
  way: Way.auto,
  ...of(UNTRIED, UNTRIED),
};

const NO_LISTENER = 'refused the last handoff of www (port 80): nothing listens there';
const NO_ADDRESS = 'it lacks the address 10.99.0.100: add it to virtualAddresses in its config';
const NO_KEY = 'its agent has another key: balancer and nodes need key files with the same content';
const NEVER =
  'its agent has never reported: it is not running, or its `balancers` does not list this balancer';

const ROWS: [string, Partial<NodeFacts>, string, string][] = [
  ['nothing is wrong', {}, 'up', ''],
  ['the node adopts', of(ADOPTED, ADOPTED), 'up', ''],
  [
    'no MAC address',
    { resolved: false, whyUnresolved: 'no ARP answer' },
    'unresolved',
    'no ARP answer',
  ],
  [
    'the agent is stopping',
    { flags: IxcpFlag.canAdopt | IxcpFlag.leaving },
    'leaving',
    'its agent is stopping or has stopped',
  ],
  [
    'another key, after the agent has left',
    { otherKey: true, flags: IxcpFlag.leaving },
    'unable',
    NO_KEY,
  ],
  [
    'another key, and no other report ever',
    { otherKey: true, reportAgeMs: null, flags: 0 },
    'unable',
    NO_KEY,
  ],
  ['no cookies', { flags: IxcpFlag.noCookies }, 'unable', 'net.ipv4.tcp_syncookies is 0 there'],
  ['cannot adopt', { flags: 0 }, 'unable', 'its agent says that its kernel cannot adopt'],
  [
    'replays, since it cannot adopt',
    { flags: IxcpFlag.canReplay },
    'up',
    'takes connections by replay: its agent says that its kernel cannot adopt',
  ],
  [
    'replays, since it has no cookies',
    { flags: IxcpFlag.canReplay | IxcpFlag.noCookies },
    'up',
    'takes connections by replay: net.ipv4.tcp_syncookies is 0 there',
  ],
  ['replays as the config says', { way: Way.replay, flags: IxcpFlag.canReplay }, 'up', ''],
  [
    'an agent that cannot replay',
    { way: Way.replay },
    'unable',
    'its agent is too old for `handoff: replay`: install this version there',
  ],
  [
    'must adopt and cannot',
    { way: Way.adopt, flags: IxcpFlag.canReplay },
    'unable',
    'its agent says that its kernel cannot adopt',
  ],
  [
    'replays the sessions of one virtual server',
    { flags: IxcpFlag.canAdopt | IxcpFlag.canReplay, unadoptable: Uint8Array.of(0, 1) },
    'up',
    'takes connections of api (port 8080) by replay: its kernel cannot adopt: an MPTCP listener, or TCP options that are switched off there',
  ],
  ['no virtual address of the only server', of(LACKING), 'unable', NO_ADDRESS],
  ['one address of two', of(LACKING, ADOPTED), 'up', NO_ADDRESS],
  ['no listener', of(REFUSED, UNTRIED), 'refusing', NO_LISTENER],
  ['no listener on one port of two', of(REFUSED, ADOPTED), 'up', NO_LISTENER],
  [
    'an older refusal for an address that the node lacks now',
    of([1, IxcpReason.noListener], ADOPTED),
    'up',
    NO_ADDRESS,
  ],
  ['one handoff without an answer', { failed: true }, 'up', 'did not answer the last handoff'],
  [
    'suspended after handoffs without an answer',
    { failed: true, suspended: true },
    'suspended',
    'did not answer the last handoff',
  ],
  [
    'no report yet, shortly after the start',
    { reportAgeMs: null, flags: 0, settled: false },
    'up',
    '',
  ],
  ['no report ever', { reportAgeMs: null, flags: 0 }, 'unheard', NEVER],
  [
    'no report ever, yet the node adopts',
    { reportAgeMs: null, flags: 0, ...of(ADOPTED, UNTRIED) },
    'up',
    NEVER,
  ],
  ['the last report is old', { reportAgeMs: 6_000 }, 'up', 'its agent no longer reports'],
  [
    'timestamps off',
    { flags: IxcpFlag.canAdopt | IxcpFlag.noTimestamps },
    'up',
    'net.ipv4.tcp_timestamps is 0 there: no client is offered timestamps',
  ],
  [
    'window scaling and SACK off',
    { flags: IxcpFlag.canAdopt | IxcpFlag.noWindowScale | IxcpFlag.noSack },
    'up',
    'net.ipv4.tcp_window_scaling is 0 there: no client is offered window scaling; ' +
      'net.ipv4.tcp_sack is 0 there: its sessions continue without selective acknowledgements',
  ],
];

for (const [name, facts, condition, why] of ROWS) {
  t.test(name, async (t) => {
    const all = { ...UP, ...facts };
    t.same(nodeStatus(all, SERVERS.slice(0, all.lacks.length)), { condition, why });
  });
}

t.test('an agent that does not know the address of a virtual server that forwards', async (t) => {
  const [www, files] = SERVERS.map((server) => [server]);
  const why =
    'its agent does not set up 10.99.0.101 of api: add it to virtualAddresses in its config, unless the node has the address anyway';
  t.same(nodeStatus({ ...UP, ...of(ADOPTED, LACKING) }, www!, files), { condition: 'up', why });
  t.same(nodeStatus({ ...UP, ...of(ADOPTED, UNTRIED) }, www!, files), { condition: 'up', why: '' });
});
