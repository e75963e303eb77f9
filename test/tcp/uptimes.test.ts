/**
 * The conversations of this directory again, on machines that have been up for longer: the engine's clock counts
 * ms since the start of the machine, and its 32-bit times wrap.
 */
import t from 'tap';
import { beginAt, UPTIMES } from '../support/uptime.js';

const CONVERSATIONS = [
  'client-confirms',
  'cookies',
  'forged',
  'handoff',
  'handshake',
  'head',
  'kernel',
  'node-side',
  'notices',
  'passing',
  'told',
  'workers',
];

for (const [uptime, start] of Object.entries(UPTIMES)) {
  beginAt(start);
  for (const name of CONVERSATIONS) {
    // Another query is another module: its tests are queued once more.
    await import(`./${name}.test.js?uptime=${start}`);
  }
  await t.test(`the conversations at an uptime of ${uptime} have ended`, async () => {});
}
