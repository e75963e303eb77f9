/** What a client sends before its node has confirmed: it goes to the node in IXP. */
import t from 'tap';
import { build } from '../../lab/packet.js';
import { FrameFlags } from '../../src/datapath/datapath.js';
import { unfinished } from '../sim/frames.js';
import {
  Conversation,
  fromClient,
  ISN,
  IXP_TYPE,
  inIxp,
  KEY,
  MSS,
  NOTICE,
  notice,
} from '../support/conversation.js';
import { asked, handed } from '../support/handoff-frames.js';

const { segment } = IXP_TYPE;

t.test('what the client sends before the confirmation goes to the node in IXP', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0', { sackPermitted: true });
  const end = 1001 + request.length;
  talk.expect(0, handed(0, request));
  talk.send(10, fromClient({ flags: 'PA', seq: end, ack: ISN + 1, window: 77, urgent: 3 }, 'more'));
  talk.expect(
    10,
    inIxp(
      0,
      { type: segment, confirm: end },
      { flags: 'PA', seq: end, ack: ISN + 1, window: 77, urgent: 3 },
      'more',
    ),
  );
  // The engine sends the request again itself, and not the client's copy.
  talk.send(20, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  talk.quiet(20);
  talk.send(30, fromClient({ flags: 'FA', seq: end + 4, ack: ISN + 1 }));
  talk.expect(30, inIxp(0, { type: segment }, { flags: 'FA', seq: end + 4 }, ''));
  talk.send(40, notice(0, NOTICE.adopted, { ack: end }));
  const last = fromClient({ flags: 'A', seq: end + 5, ack: 7000 });
  talk.send(50, last);
  talk.expectForwarded(50, 0, last);
  talk.counted({ wrapped: 2 });
});

t.test('a wrapped segment leaves with a complete checksum', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0');
  const end = 1001 + request.length;
  talk.expect(0, handed(0, request));
  const frame = unfinished(build(fromClient({ flags: 'PA', seq: end, ack: ISN + 1 }, 'abc'), KEY));
  talk.send(5, frame, FrameFlags.checksumPartial);
  talk.expect(5, inIxp(0, { type: segment }, { seq: end }, 'abc'));
});

t.test('a segment that IXP would make too large goes in pieces', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0');
  const end = 1001 + request.length;
  talk.expect(0, handed(0, request));
  talk.send(5, fromClient({ flags: 'PA', seq: end, ack: ISN + 1 }, 'x'.repeat(MSS)));
  talk.expect(5, inIxp(0, { type: segment }, { flags: 'PA', seq: end }, 'x'.repeat(MSS)));
  const body = `${'a'.repeat(MSS)}${'b'.repeat(MSS)}cc`;
  talk.send(6, fromClient({ flags: 'PFA', seq: end, ack: ISN + 1 }, body), FrameFlags.segmented);
  talk.expect(6, inIxp(0, { type: segment }, { flags: 'A', seq: end }, 'a'.repeat(MSS)));
  talk.expect(6, inIxp(0, { type: segment }, { flags: 'A', seq: end + MSS }, 'b'.repeat(MSS)));
  talk.expect(6, inIxp(0, { type: segment }, { flags: 'PFA', seq: end + 2 * MSS }, 'cc'));
  talk.counted({ wrapped: 2 });
  talk.send(20, notice(0, NOTICE.adopted, { ack: end }));
  const large = fromClient({ flags: 'A', seq: end, ack: ISN + 1 }, 'x'.repeat(20_000));
  talk.send(21, large, FrameFlags.segmented);
  talk.expectForwarded(21, 0, large, FrameFlags.segmented);
});

t.test('of a SYN inside a session only the header goes', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  talk.send(5, fromClient({ flags: 'S', seq: end + 77 }, 'x'.repeat(MSS + 40)));
  talk.expect(5, inIxp(0, { type: segment }, { flags: 'S', seq: end + 77 }, ''));
});
