/** Frames for nodes behind routers: what carries them, and what does not fit in one. */
import t, { type Test } from 'tap';
import { addressNumber, build, type PacketSpec } from '../../lab/packet.js';
import { FrameFlags } from '../../src/datapath/datapath.js';
import {
  BALANCER,
  CLIENT,
  Conversation,
  FIRST_NONCE,
  fromClient,
  get,
  IXP_TYPE,
  inIxp,
  KEY,
  MSS,
  MTU,
  NODES,
  SERVER,
  toClient,
} from '../support/conversation.js';
import { differences, parse } from '../support/packet-parse.js';
import { START } from '../support/uptime.js';

const ETHERNET = 14;
const CARRY_BYTES = 28;
const IXP_PROTOCOL = 253;

/** A conversation whose nodes are behind routers from now on, and what is committed in it. */
function routed(talk: Conversation): Buffer[] {
  const { datapath, farm } = talk;
  talk.change(0, { nodes: farm.nodes.map((node) => ({ ...node, via: 'ixp' })) });
  const frames: Buffer[] = [];
  const commit = datapath.commit.bind(datapath);
  datapath.commit = (offset, length, port) => {
    frames.push(Buffer.from(datapath.memory.bytes.slice(offset, offset + length)));
    commit(offset, length, port);
  };
  return frames;
}

/** Checks what carries a packet, and returns the frame that the shim makes of it. */
function uncarried(t: Test, frame: Buffer): Buffer {
  t.equal(frame.subarray(0, 6).toString('hex'), NODES[0].mac.replaceAll(':', ''), 'the next hop');
  t.equal(frame.readUInt16BE(ETHERNET + 2), frame.length - ETHERNET, 'the length');
  t.equal(frame[ETHERNET + 9], IXP_PROTOCOL);
  t.equal(frame.readUInt32BE(ETHERNET + 12), addressNumber(BALANCER.address));
  t.equal(frame.readUInt32BE(ETHERNET + 16), addressNumber(NODES[0].address));
  t.ok(frame.length <= MTU + ETHERNET, 'it fits in the link');
  const carry = frame.subarray(ETHERNET + 20, ETHERNET + CARRY_BYTES);
  t.equal(carry.toString('hex'), `01090800${FIRST_NONCE.toString(16).padStart(8, '0')}`);
  return Buffer.concat([frame.subarray(0, ETHERNET), frame.subarray(ETHERNET + CARRY_BYTES)]);
}

/** The payload of a plain segment. */
const payloadOf = (frame: Buffer): string => frame.subarray(ETHERNET + 40).toString('latin1');

t.test('the MSS leaves room, and the handoff is carried', async (t) => {
  const talk = new Conversation(t);
  const frames = routed(talk);
  talk.send(0, fromClient({ flags: 'S', seq: 1000, options: { mss: 1460 } }));
  talk.expect(
    0,
    toClient({ flags: 'SA', seq: 5000, ack: 1001, options: { mss: MSS - CARRY_BYTES } }),
  );
  talk.send(1, fromClient({ flags: 'A', seq: 1001, ack: 5001 }));
  frames.length = 0;
  talk.send(2, fromClient({ flags: 'PA', seq: 1001, ack: 5001 }, get('/0')));
  talk.rest(2);
  t.equal(frames.length, 1);
  const expected: PacketSpec = inIxp(
    0,
    { type: IXP_TYPE.adopt },
    { flags: 'PA', seq: 1001, ack: 5001 },
    get('/0'),
  );
  t.same(differences(expected, parse(uncarried(t, frames[0]!), KEY)), []);
});

t.test('segments that pass are carried without their padding', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  const frames = routed(talk);
  const packet = fromClient({ flags: 'A', seq: end, ack: 7000 });
  talk.send(10, { ...packet, trailer: new Uint8Array(6).fill(7) });
  talk.rest(10);
  t.equal(frames.length, 1);
  const inner = uncarried(t, frames[0]!);
  const original = Buffer.from(build(packet, KEY));
  t.equal(inner.toString('hex', ETHERNET), original.toString('hex', ETHERNET));
});

t.test('a segment that does not fit is cut', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  const frames = routed(talk);
  for (const [time, length, flags] of [
    [10, 1460, 0],
    [20, 1460, FrameFlags.checksumPartial],
    [30, 4000, FrameFlags.checksumPartial | FrameFlags.segmented],
  ] as const) {
    frames.length = 0;
    const payload = Array.from({ length }, (_, at) => String.fromCharCode(at % 251)).join('');
    talk.send(time, fromClient({ flags: 'PA', seq: end, ack: 7000 }, payload), flags);
    talk.rest(time);
    const pieces = frames.map((frame) => uncarried(t, frame));
    t.equal(pieces.map(payloadOf).join(''), payload);
    t.same(
      pieces.flatMap((piece) => parse(piece, KEY).problems),
      [],
      'checksums are right',
    );
  }
});

t.test('a node that is on the link again gets its frames as they are', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  routed(talk);
  talk.change(5, { nodes: talk.farm.nodes.map(({ via: _, ...node }) => node) });
  const packet = fromClient({ flags: 'A', seq: end, ack: 7000 });
  talk.send(10, packet);
  talk.expectForwarded(10, 0, packet);
});

t.test('an ICMP error about a packet of the node is carried to it as it came', async (t) => {
  const talk = new Conversation(t);
  talk.passing(0);
  const frames = routed(talk);
  const quoted = build({
    ip: { source: SERVER.address, destination: CLIENT.address },
    tcp: { sourcePort: SERVER.port, destinationPort: CLIENT.port, seq: 7000, flags: 'A' },
    payload: 'x'.repeat(500),
  }).subarray(ETHERNET);
  const error: PacketSpec = {
    ip: { source: '192.0.2.1', destination: SERVER.address },
    icmp: { type: 3, code: 4, rest: 1280, quoted },
  };
  talk.send(1, error);
  const [frame] = frames;
  t.equal(frames.length, 1);
  const inner = frame === undefined ? Buffer.alloc(0) : uncarried(t, frame);
  t.ok(inner.subarray(ETHERNET).equals(build(error, KEY).subarray(ETHERNET)));
  talk.counted({ icmp_forwarded: 1 });
});

t.test('questions about an unknown connection are carried', async (t) => {
  const talk = new Conversation(t);
  talk.engine.begin(START);
  const frames = routed(talk);
  talk.send(0, fromClient({ flags: 'A', seq: 70_000, ack: 900_000 }));
  t.equal(frames.length, NODES.length);
  const [frame] = frames;
  const inner = frame === undefined ? Buffer.alloc(0) : uncarried(t, frame);
  const question = inIxp(0, { type: IXP_TYPE.query }, { flags: 'A', seq: 70_000, ack: 900_000 });
  t.same(differences(question, parse(inner, KEY)), []);
});
