/** Memory for a session table that outlives its engine, as maps shared with the kernel do. */
import { indexWordsFor } from '../../src/engine/table/session-index.js';
import { SESSION_RECORD_BYTES } from '../../src/engine/table/session-record.js';
import type { SessionMemory } from '../../src/engine/table/session-table.js';

export function sessionMemory(sessions: number): SessionMemory {
  const indexWords = indexWordsFor(sessions);
  return {
    records: new ArrayBuffer(sessions * SESSION_RECORD_BYTES),
    recordsOffset: 0,
    index: new ArrayBuffer(indexWords * 4),
    indexOffset: 0,
    indexWords,
    indexState: new Uint32Array(1),
  };
}
