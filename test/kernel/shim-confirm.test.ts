/** When the shim sends IXCP_ADOPTED for the segments of a socket, and when it need not. */
import t from 'tap';
import { build, type TcpSpec } from '../../lab/packet.js';
import { insideNamespace } from './namespace.js';
import {
  ACK,
  SEQ,
  Shim,
  sessionKey,
  sessionProgress,
  sessionValue,
  toClient,
} from './shim-fixture.js';

/** INITIAL_WINDOW_BYTES of bpf/lib/config.h. */
const INITIAL_WINDOW_BYTES = 14_600;
const NOTICE_FROM = (ACK + INITIAL_WINDOW_BYTES) >>> 0;

if (insideNamespace(import.meta.url)) {
  const shim = new Shim();
  t.teardown(() => shim.object.close());

  /** Sends a segment of the node's socket. `answered` rises to `asked` with a complete notice. */
  const send = (tcp: TcpSpec, payload = '') => {
    shim.object.testRun('shim_egress', build(toClient(tcp, payload)));
    return sessionProgress(shim.object.mapLookup('sessions', sessionKey));
  };

  t.test('a confirmation is due until everything is acknowledged', async (t) => {
    const begin = { confirm: 5, asked: 3, answered: 1 };
    shim.object.mapUpdate('sessions', sessionKey, sessionValue(begin));
    t.strictSame(
      send({ ack: 0xffff_ffff }),
      { asked: 3, answered: 1, sent: true },
      'before the mark',
    );
    t.strictSame(send({ ack: 4 }), { asked: 3, answered: 1, sent: true }, 'one byte before it');
    t.strictSame(send({ ack: 9, flags: 'RA' }), { asked: 3, answered: 1, sent: true }, 'a reset');
    t.strictSame(send({ ack: 5 }), { asked: 3, answered: 3, sent: true }, 'at the mark');
    shim.object.mapUpdate('sessions', sessionKey, sessionValue(begin));
    t.strictSame(
      send({ ack: 4, flags: 'FA' }),
      { asked: 3, answered: 1, sent: true },
      'a FIN before the mark',
    );
    t.strictSame(
      send({ ack: 5, flags: 'FA' }),
      { asked: 3, answered: 3, sent: true },
      'a FIN confirms as well',
    );
  });

  t.test('if the client confirms, the start of a response causes no notice', async (t) => {
    const begin = (asked = 1) => {
      const session = { confirm: SEQ, asked, noticeFrom: NOTICE_FROM };
      shim.object.mapUpdate('sessions', sessionKey, sessionValue(session));
    };
    const unconfirmed = { asked: 1, answered: 0, sent: true };
    const confirmed = { asked: 1, answered: 1, sent: true };
    begin();
    t.strictSame(send({}), unconfirmed, 'an acknowledgement of the request');
    t.strictSame(send({}, 'x'.repeat(1400)), unconfirmed, 'the first segment');
    t.strictSame(
      send({ seq: NOTICE_FROM - 1 }, 'x'),
      unconfirmed,
      'the last byte of the initial window',
    );
    t.strictSame(send({ seq: NOTICE_FROM }, 'x'), confirmed, 'the first byte behind it');
    begin();
    t.strictSame(send({ flags: 'FA' }), confirmed, 'its FIN');
    begin(2);
    t.strictSame(
      send({}),
      { asked: 2, answered: 2, sent: true },
      'when the balancer has asked again',
    );
  });
}
