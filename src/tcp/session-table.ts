/**
 * All sessions: a structure of arrays, one element for each slot.
 *
 *     buckets (open addressing, seeded hash)        slots
 *     +----+                                        client  port|server  state  node  ...
 *     |  0 |                                      0 ......  ..........   .....  ....
 *     |  3 | -----------------------------------> 2 10.0..  40112|0      PASS   1
 *     |  1 | ---> slot 0
 *     +----+      (a bucket holds slot + 1; 0 is empty)
 *
 * A session's key is client address, client port and virtual server. An attacker chooses ports
 * and so the keys: the hash has a secret seed. A slot that is freed and used again gets a new
 * nonce, which goes with the session to the node and comes back in its notices: the slot's
 * generation. Addresses are IPv4 words; see docs/decisions.md.
 *
 * Fields are public and written in place by the engine: they are its registers.
 */

/** Life of a session. The order matters: half open is evicted before what is further on. */
export const SessionState = {
  free: 0,
  /** SYN/ACK sent (RFC 9293: SYN-RECEIVED): half open. */
  synReceived: 1,
  /** Handshake complete; the request head is being collected. */
  collecting: 2,
  /** Handed over; the node has not confirmed. */
  handing: 3,
  /** The node has the connection: client packets pass through. */
  passing: 4,
  /** Ended: late packets still pass through. */
  lingering: 5,
} as const;
export const SESSION_STATE_NAMES = [
  'free',
  'syn-received',
  'collecting',
  'handing',
  'passing',
  'lingering',
] as const;

export const SessionFlag = {
  windowScaleOk: 0x01,
  sackOk: 0x02,
  timestampsOk: 0x04,
  clientFin: 0x08,
  nodeFin: 0x10,
  /** The node has confirmed, but not yet all the bytes that we keep. */
  adopted: 0x20,
  /** Some handoff of this session ran into silence: a second node may know it. */
  moved: 0x40,
} as const;

/** Bytes of method and target kept for people to read. */
export const REQUEST_BYTES = 64;

const NONE = -1;

export class SessionTable {
  readonly capacity: number;
  /** Sessions in each state; index 0 is not kept. */
  readonly inState = new Uint32Array(SESSION_STATE_NAMES.length);
  /** Sessions of each virtual server. */
  readonly ofServer: Uint32Array;
  /** Sessions in all. */
  size = 0;

  readonly client: Uint32Array;
  /** Client port in the upper half, virtual server index in the lower. */
  readonly portAndServer: Uint32Array;
  readonly state: Uint8Array;
  readonly flags: Uint8Array;
  /** Window shifts: high nibble the client's, low nibble ours. */
  readonly scales: Uint8Array;
  readonly service: Uint8Array;
  /** Transmissions of SYN/ACK, or of the handoff to the present node. */
  readonly tries: Uint8Array;
  /** Index of the node, LOCAL_NODE for the balancer itself. Means nothing before a handoff. */
  readonly node: Uint16Array;
  readonly mss: Uint16Array;
  /** Where the client's frames come from: upper 16 and lower 32 bits of a MAC address. */
  readonly macHigh: Uint16Array;
  readonly macLow: Uint32Array;
  /** The client's window as it last stood in a segment, unscaled. */
  readonly window: Uint16Array;
  /** Index in the head store, or -1. */
  readonly head: Int32Array;
  readonly nonce: Uint32Array;
  /** The client's initial sequence number. */
  readonly clientIsn: Uint32Array;
  /** Ours. */
  readonly serverIsn: Uint32Array;
  /** Next sequence number expected of the client; in pass-through, the highest seen. */
  readonly receiveNext: Uint32Array;
  /** The client's last acknowledgement number. */
  readonly clientAck: Uint32Array;
  /** End of the bytes (and FIN) that were handed over from the head store. */
  readonly handedTo: Uint32Array;
  /** What the node has acknowledged of them. */
  readonly nodeAck: Uint32Array;
  /** The client's last TSval, and the difference of our timestamp clock for this session. */
  readonly tsval: Uint32Array;
  readonly tsOffset: Uint32Array;
  readonly resource: Uint32Array;
  /** Holders that this session was handed to, as bits. */
  readonly tried: Uint32Array;
  /** The dispatcher's state between looks at the head. */
  readonly resume: Uint32Array;
  /** ms on the engine's clock, wrapping. */
  readonly openedAt: Uint32Array;
  readonly lastSeen: Uint32Array;
  /** Client packets passed through. */
  readonly packets: Uint32Array;
  /** Length and bytes of the start of the request line, REQUEST_BYTES each. */
  readonly requestLength: Uint8Array;
  readonly request: Uint8Array;

  private readonly buckets: Int32Array;
  private readonly mask: number;
  private readonly clientSeed: number;
  private readonly portSeed: number;
  /** Free slots below `used`, chained. */
  private readonly nextFree: Int32Array;
  private firstFree = NONE;
  /** Slots from here up have never been used: their pages are not touched before. */
  private used = 0;

  /**
   * @param servers virtual servers
   * @param clientSeed and portSeed any numbers: the secret of the hash
   */
  constructor(capacity: number, servers: number, clientSeed: number, portSeed: number) {
    this.capacity = capacity;
    this.ofServer = new Uint32Array(servers);
    this.clientSeed = clientSeed | 0;
    this.portSeed = portSeed | 0;
    const words = (): Uint32Array => new Uint32Array(capacity);
    const halves = (): Uint16Array => new Uint16Array(capacity);
    const bytes = (): Uint8Array => new Uint8Array(capacity);
    this.client = words();
    this.portAndServer = words();
    this.state = bytes();
    this.flags = bytes();
    this.scales = bytes();
    this.service = bytes();
    this.tries = bytes();
    this.node = halves();
    this.mss = halves();
    this.macHigh = halves();
    this.macLow = words();
    this.window = halves();
    this.head = new Int32Array(capacity);
    this.nonce = words();
    this.clientIsn = words();
    this.serverIsn = words();
    this.receiveNext = words();
    this.clientAck = words();
    this.handedTo = words();
    this.nodeAck = words();
    this.tsval = words();
    this.tsOffset = words();
    this.resource = words();
    this.tried = words();
    this.resume = words();
    this.openedAt = words();
    this.lastSeen = words();
    this.packets = words();
    this.requestLength = bytes();
    this.request = new Uint8Array(capacity * REQUEST_BYTES);
    this.nextFree = new Int32Array(capacity);
    let buckets = 16;
    while (buckets < capacity * 2) buckets *= 2;
    this.buckets = new Int32Array(buckets);
    this.mask = buckets - 1;
  }

  /** Slot of a session, or -1. */
  find(client: number, portAndServer: number): number {
    let at = this.home(client, portAndServer);
    for (;;) {
      const slot = this.buckets[at]! - 1;
      if (slot < 0) return NONE;
      if (this.client[slot] === client && this.portAndServer[slot] === portAndServer) return slot;
      at = (at + 1) & this.mask;
    }
  }

  /** A slot for a session that is not in the table, with every field fresh; -1 when the table is full. */
  insert(client: number, portAndServer: number, now: number): number {
    const slot = this.allocate();
    if (slot === NONE) return NONE;
    let at = this.home(client, portAndServer);
    while (this.buckets[at] !== 0) at = (at + 1) & this.mask;
    this.buckets[at] = slot + 1;
    this.client[slot] = client;
    this.portAndServer[slot] = portAndServer;
    this.flags[slot] = 0;
    this.service[slot] = 0;
    this.tries[slot] = 0;
    this.node[slot] = 0;
    this.head[slot] = NONE;
    this.tried[slot] = 0;
    this.resume[slot] = 0;
    this.resource[slot] = 0;
    this.openedAt[slot] = now;
    this.lastSeen[slot] = now;
    this.packets[slot] = 0;
    this.requestLength[slot] = 0;
    this.state[slot] = SessionState.synReceived;
    this.inState[SessionState.synReceived]! += 1;
    this.ofServer[portAndServer & 0xffff]! += 1;
    this.size += 1;
    return slot;
  }

  setState(slot: number, state: number): void {
    this.inState[this.state[slot]!]! -= 1;
    this.inState[state]! += 1;
    this.state[slot] = state;
  }

  remove(slot: number): void {
    let hole = this.home(this.client[slot]!, this.portAndServer[slot]!);
    while (this.buckets[hole] !== slot + 1) hole = (hole + 1) & this.mask;
    // Backward shift: what was displaced past the hole moves up, so that no tombstones are needed.
    let at = hole;
    for (;;) {
      at = (at + 1) & this.mask;
      const other = this.buckets[at]! - 1;
      if (other < 0) break;
      const home = this.home(this.client[other]!, this.portAndServer[other]!);
      if (((at - home) & this.mask) >= ((at - hole) & this.mask)) {
        this.buckets[hole] = other + 1;
        hole = at;
      }
    }
    this.buckets[hole] = 0;
    this.inState[this.state[slot]!]! -= 1;
    this.ofServer[this.portAndServer[slot]! & 0xffff]! -= 1;
    this.state[slot] = SessionState.free;
    this.nextFree[slot] = this.firstFree;
    this.firstFree = slot;
    this.size -= 1;
  }

  /** First slot in use at or after `slot`, or -1: for walking the table. */
  nextUsed(slot: number): number {
    for (let at = slot; at < this.used; at++) if (this.state[at] !== SessionState.free) return at;
    return NONE;
  }

  /** Bytes of memory for each session at full capacity, the hash included. */
  get bytesPerSession(): number {
    let bytes = 0;
    for (const value of Object.values(this)) {
      if (ArrayBuffer.isView(value)) bytes += value.byteLength;
    }
    return bytes / this.capacity;
  }

  private allocate(): number {
    const slot = this.firstFree;
    if (slot !== NONE) {
      this.firstFree = this.nextFree[slot]!;
      return slot;
    }
    if (this.used === this.capacity) return NONE;
    this.used += 1;
    return this.used - 1;
  }

  /** Both words are mixed before they meet, each with a seed of its own: no pair of keys collides under every seed. */
  private home(client: number, portAndServer: number): number {
    let port = portAndServer ^ this.portSeed;
    port = Math.imul(port ^ (port >>> 16), 0x85ebca6b);
    port = Math.imul(port ^ (port >>> 13), 0xc2b2ae35);
    let mixed = client ^ this.clientSeed ^ port ^ (port >>> 16);
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x7feb352d);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b);
    return (mixed ^ (mixed >>> 16)) & this.mask;
  }
}
