/**
 * The conversations of this directory again, on machines that have been up for longer. The engine's
 * clock counts ms since the start of the machine, and its 32-bit times wrap.
 */
import t from 'tap';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { beginAt, UPTIMES } from '../support/uptime.js';

const CONVERSATIONS = [
  'answered-syn',
  'client-confirms',
  'cookies',
  'forged',
  'handoff',
  'handshake',
  'head',
  'head-rooms',
  'icmp-errors',
  'inheritance',
  'kernel',
  'kernel-events',
  'node-limits',
  'node-moves',
  'node-side',
  'notices',
  'passing',
  'recall',
  'take-over',
  'workers',
];

t.setTimeout(FILE_TIMEOUT_MS);

// No test runs before all files are loaded: tap ends when it has nothing to do.
let allIsLoaded = (): void => {};
t.test(
  'the conversations are loaded',
  () => new Promise<void>((resolve) => (allIsLoaded = resolve)),
);
for (const [uptime, start] of Object.entries(UPTIMES)) {
  t.test(`an uptime of ${uptime}`, async () => beginAt(start));
  // Another query makes another module, so its tests are defined once more.
  for (const name of CONVERSATIONS) await import(`./${name}.test.js?uptime=${start}`);
}
allIsLoaded();
