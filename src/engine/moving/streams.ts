/**
 * Where the client of each session that may move is in its stream of requests: arrays beside the
 * session records, made only for a virtual server with `keepAlive: migrate`. 29 bytes a session.
 */
export class Streams {
  /** State of the follower at `next` (request/http/framing.ts): `state` and `left`. */
  readonly state: Uint32Array;
  readonly left: Float64Array;
  /** Sequence number of the next byte to be followed. */
  readonly next: Uint32Array;
  /** Requests that the present node has got since it adopted the session. */
  readonly requests: Uint32Array;
  /** How often the session has moved. */
  readonly moves: Uint32Array;
  /** Bytes of the client before the first byte that the record names. */
  readonly before: Uint32Array;
  /**
   * 1, while a later head is collected: the node may lack bytes before that head. Nothing is
   * acknowledged for the node then, because the client must repeat what was lost.
   */
  readonly unproven: Uint8Array;

  /** @param capacity sessions at one time */
  constructor(capacity: number) {
    const words = (): Uint32Array => new Uint32Array(capacity);
    this.state = words();
    this.left = new Float64Array(capacity);
    this.next = words();
    this.requests = words();
    this.moves = words();
    this.before = words();
    this.unproven = new Uint8Array(capacity);
  }
  /** A new session takes the slot. */
  clear(slot: number): void {
    this.moves[slot] = 0;
    this.before[slot] = 0;
    this.unproven[slot] = 0;
  }
}
