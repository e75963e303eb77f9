/** Rows of `baton sessions`, from the session table. */

import type { SessionPage, SessionRow } from '../../api/documents.js';
import { elapsed } from '../../base/clock.js';
import { escapeBytes } from '../../base/text.js';
import { STATUS_OF_ANSWER } from '../../directory/request-answers.js';
import type { Engine } from '../../engine/engine.js';
import {
  REQUEST_BYTES,
  SESSION_STATE_NAMES,
  SessionState,
  type SessionTable,
} from '../../engine/table/session-table.js';
import { formatEndpoint } from '../../wire/address.js';

/** What a row names by slot. */
export interface Names {
  readonly virtualServers: ReadonlyMap<number, string>;
  readonly nodes: ReadonlyMap<number, string>;
}

/**
 * One session as a row.
 * @param clock the engine's time, ms
 */
export function sessionRow(
  sessions: SessionTable,
  slot: number,
  names: Names,
  clock: number,
): SessionRow {
  const state = sessions.state(slot);
  const key = sessions.portServer(slot);
  const node = sessions.node(slot);
  const chosen = state >= SessionState.handing;
  const start = slot * REQUEST_BYTES;
  const length = sessions.requestLength[slot] ?? 0;
  const client = sessions.clientAddress(slot);
  const status = chosen ? STATUS_OF_ANSWER.get(sessions.answer(slot)) : undefined;
  const parked = sessions.parkedAt(slot);
  return {
    client: formatEndpoint({ address: client, port: key >>> 16 }),
    virtualServer: names.virtualServers.get(key & 0xffff) ?? '',
    state: SESSION_STATE_NAMES[state] ?? '',
    node: chosen ? (names.nodes.get(node) ?? '') : '',
    request: escapeBytes(sessions.request, start, start + length, REQUEST_BYTES),
    ...(status === undefined ? {} : { status }),
    requestCut: length > REQUEST_BYTES,
    ageMs: elapsed(clock, sessions.openedAt(slot)),
    idleMs: elapsed(clock, sessions.lastSeen(slot)),
    packets: sessions.packets(slot),
    moves: sessions.movesOf(slot),
    ...(parked.length === 0 ? {} : { parked: parked.map((at) => names.nodes.get(at) ?? '') }),
  };
}

/** The sessions in the slots from `after` on, at most `limit` of them. */
export function sessionPage(
  engine: Pick<Engine, 'sessions' | 'showLastRequest'>,
  names: Names,
  after: number,
  limit: number,
  clock: number,
): SessionPage {
  const { sessions } = engine;
  const rows: SessionRow[] = [];
  let slot = sessions.nextUsed(after);
  while (slot >= 0 && rows.length < limit) {
    engine.showLastRequest(slot);
    rows.push(sessionRow(sessions, slot, names, clock));
    slot = sessions.nextUsed(slot + 1);
  }
  return { sessions: rows, total: sessions.size, next: slot < 0 ? null : slot };
}
