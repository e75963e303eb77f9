/**
 * What an engine thread tells the log thread about sessions: records in a ring of shared memory.
 * The engine thread is its only writer, the log thread its only reader. The writer never waits: it
 * counts and leaves out records that do not fit.
 *
 *     memory  [ written, lost | read ][ data: a power of two words ]
 *
 * `written` and `read` count 32-bit words. They only grow, modulo 2^32, and lie in cache lines of
 * their own. A record is contiguous and takes an even number of words. One that does not fit before
 * the end of the data begins at the start, and a FILL takes the rest.
 */

/** Places in the head of the memory, as 32-bit words: two cache lines. */
export const RING_WRITTEN = 0;
export const RING_LOST = 1;
export const RING_READ = 16;
export const RING_HEAD_BYTES = 128;

/**
 * Bytes of data of each ring: about 12,000 sessions with requests of browsers. The log thread reads
 * it every 20 ms, so that is 600,000 sessions a second.
 */
const RING_DATA_BYTES = 8 * 1024 * 1024;

/** Memory for a ring with `dataBytes` of data, a power of two. */
export function ringMemory(dataBytes = RING_DATA_BYTES): SharedArrayBuffer {
  return new SharedArrayBuffer(RING_HEAD_BYTES + dataBytes);
}

export const RecordKind = {
  /** Only fills the rest of the data. */
  fill: 0,
  /** A head was read or refused: RECORD_REQUEST, then the bytes of the head. */
  request: 1,
  /** The session went to a node, or the balancer began to answer it: RECORD_EVENT. */
  handoff: 2,
  /** A node did not confirm in time: RECORD_EVENT, as are the next three. */
  unconfirmed: 3,
  refused: 4,
  silent: 5,
  released: 6,
  /** The session ended: RECORD_CLOSE. */
  close: 7,
  /** The node gets another path: RECORD_PATH, then its bytes. */
  path: 8,
} as const;

/** Word offsets of the fields that every record has. */
export const RECORD = {
  /** Words of the record in the lower half, RecordKind in the upper. */
  wordsAndKind: 0,
  /** Slot of the session in the table of its engine thread. */
  slot: 1,
  /** Together with the slot it names the session. */
  nonce: 2,
  /** ms on the engine's clock, unsigned 32 bits. */
  clock: 3,
} as const;
const RECORD_WORDS = 4;

/** Word offsets of the other fields of a request. */
export const RECORD_REQUEST = {
  /** Bytes of the head that the record has. */
  length: RECORD_WORDS,
  /** 1 if the client has sent more than those. */
  cut: RECORD_WORDS + 1,
  bytes: RECORD_WORDS + 2,
} as const;

/** Word offsets of the other fields of a path. */
export const RECORD_PATH = { length: RECORD_WORDS, bytes: RECORD_WORDS + 1 } as const;

/** Word offsets of the other fields of an event. */
export const RECORD_EVENT = { node: RECORD_WORDS, unused: RECORD_WORDS + 1 } as const;
export const RECORD_EVENT_WORDS = RECORD_WORDS + 2;

/** Word offsets of the other fields of a close. */
export const RECORD_CLOSE = {
  client: RECORD_WORDS,
  /** Client port in the upper half, slot of the virtual server in the lower. */
  portServer: RECORD_WORDS + 1,
  /** ms on the engine's clock. */
  openedAt: RECORD_WORDS + 2,
  /** Packets of the client that were forwarded. */
  packets: RECORD_WORDS + 3,
  /** Bytes of the client's stream, modulo 2^32. */
  bytes: RECORD_WORDS + 4,
  /** Slot of the node, or NO_NODE. */
  node: RECORD_WORDS + 5,
  /**
   * From the lowest byte up: Answer, index in CLOSE_REASONS, SessionTable.requestLength, and 1 if
   * the four words of the client's IPv6 address follow the request.
   */
  answerReasonLength: RECORD_WORDS + 6,
  unused: RECORD_WORDS + 7,
  /** REQUEST_BYTES: the start of method and target. */
  request: RECORD_WORDS + 8,
} as const;

/** Most bytes of a head in a record. Fields behind them are not in the log. */
export const MOST_RECORDED_BYTES = 4096;
