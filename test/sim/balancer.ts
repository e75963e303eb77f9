/**
 * The simulated balancer: the real engine and dispatcher, with addresses and limits of this farm.
 */

import { addressNumber, macBytes } from '../../lab/packet.js';
import type { Counters } from '../../src/base/counters.js';
import { Directory } from '../../src/directory/directory.js';
import { directoryImage } from '../../src/directory/directory-image.js';
import { RequestAnswers } from '../../src/directory/request-answers.js';
import { RequestDispatcher } from '../../src/directory/request-dispatcher.js';
import { Engine } from '../../src/engine/engine.js';
import { inSlots, KeepAlive } from '../../src/engine/farm.js';
import { HandoffCandidates } from '../../src/engine/handoff/candidates.js';
import type { NodeTable } from '../../src/engine/node-table.js';
import type { EngineOptions, Timeouts } from '../../src/engine/options.js';
import type { MemoryDatapath } from '../support/memory.js';
import { directoryEntry } from './content.js';
import type { Random } from './random.js';
import type { Scenario } from './scenario.js';

export const VIRTUAL_ADDRESS = '10.9.0.100';
export const VIRTUAL_PORT = 80;
export const BALANCER_ADDRESS = '10.9.0.2';
export const BALANCER_MAC = '02:00:00:00:00:bb';
export const MTU = 1500;
const HEAD_BYTES = 8192;

export const TIMEOUTS: Timeouts = {
  synAck: 1000,
  head: 10_000,
  handoff: 300,
  idle: 40_000,
  closing: 15_000,
  answer: 1_000,
  linger: 2_000,
};

/** @param random source of the engine's secret, its hash seeds, and the directory's seed */
export function makeEngine(
  own: Pick<EngineOptions, 'now' | 'key' | 'observer'>,
  scenario: Scenario,
  nodes: NodeTable,
  random: Random,
  datapath: MemoryDatapath,
  counters: Counters,
): { engine: Engine; dispatcher: RequestDispatcher } {
  const options: EngineOptions = {
    ...own,
    address: addressNumber(BALANCER_ADDRESS),
    mac: macBytes(BALANCER_MAC),
    mtu: MTU,
    secret: Uint8Array.from({ length: 32 }, () => random.bits() & 255),
    seeds: { client: random.bits(), port: random.bits(), nonce: random.bits() },
    virtualServers: inSlots([
      {
        address: addressNumber(VIRTUAL_ADDRESS),
        port: VIRTUAL_PORT,
        keepAlive: scenario.migrates ? KeepAlive.migrate : KeepAlive.sticky,
      },
    ]),
    answers: new RequestAnswers(Date.now),
    limits: {
      sessions: 256,
      halfOpen: 128,
      headBytes: HEAD_BYTES,
      heads: 128,
      handoffTries: 2,
      synAckTries: 5,
      ...scenario.limits,
    },
    timeouts: TIMEOUTS,
  };
  const dispatcher = new RequestDispatcher({
    directory: new Directory(directoryImage(scenario.resources.map(directoryEntry), random.bits())),
    predictors: [scenario.predictor],
    candidates: new HandoffCandidates(nodes),
    headBytes: HEAD_BYTES,
  });
  return { engine: new Engine(options, nodes, dispatcher, datapath, counters), dispatcher };
}
