/** The shim at egress, packet by packet (BPF_PROG_TEST_RUN). */
import t from 'tap';
import type { PacketSpec } from '../../lab/packet.js';
import { insideNamespace } from './namespace.js';
import { type Case, dropped, passed, runCases } from './shim-cases.js';
import { ACK, CLIENT, Mark, notice, SEQ, Shim, toClient, VIRTUAL } from './shim-fixture.js';

const Ixcp = { adopted: 1, refused: 2, fin: 3, rst: 4 } as const;
const USER_MARK = 7;

const noticeOf = (type: number, ack = SEQ): PacketSpec => notice({ ixcp: { type, seq: ACK, ack } });

const EGRESS: readonly Case[] = [
  { name: 'TCP of no session', frame: toClient({}), ...passed, counters: [] },
  {
    name: 'a session without a notice due',
    session: { answered: 1 },
    frame: toClient({}, 'x'),
    mark: USER_MARK,
    markOut: USER_MARK,
    ...passed,
    counters: [],
  },
  {
    name: 'IPv4 options are left alone',
    session: {},
    frame: {
      ...toClient({}),
      ip: { source: VIRTUAL, destination: CLIENT, options: new Uint8Array(4) },
    },
    ...passed,
    counters: [],
  },
  {
    name: 'a short copy becomes a notice, longer than it was',
    session: {},
    frame: toClient({}),
    mark: Mark.notice + Ixcp.adopted,
    ...passed,
    out: noticeOf(Ixcp.adopted),
    counters: ['notice_adopted'],
  },
  {
    name: 'a long copy becomes a notice',
    session: {},
    frame: toClient({ flags: 'FA', ack: 5 }, 'x'.repeat(1400)),
    mark: Mark.notice + Ixcp.fin,
    ...passed,
    out: noticeOf(Ixcp.fin, 5),
    counters: ['notice_fin'],
  },
  {
    name: 'a copy of no session is dropped',
    frame: toClient({}),
    mark: Mark.notice + Ixcp.rst,
    ...dropped,
    markOut: Mark.notice + Ixcp.rst,
    counters: ['drop_notice'],
  },
  {
    name: 'a copy that is not TCP is dropped',
    session: {},
    frame: { ...toClient({}), ip: { source: VIRTUAL, destination: CLIENT, protocol: 17 } },
    mark: Mark.notice + Ixcp.fin,
    ...dropped,
    markOut: Mark.notice + Ixcp.fin,
    counters: ['drop_notice'],
  },
];

if (insideNamespace(import.meta.url)) {
  const shim = new Shim();
  t.teardown(() => shim.object.close());

  t.test('egress', async (t) => runCases(t, shim, 'shim_egress', EGRESS));
}
