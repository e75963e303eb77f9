/** What Baton makes of every case of test/fixtures/request-framing.txt, however it is cut. */
import t from 'tap';
import { type Followed, follow } from '../../support/follow.js';
import { framingCases, MARKER } from '../../support/framing-cases.js';
import { bytesOf } from './pieces.js';

/** The verdict of a case, as the file has it. */
function verdictOf(followed: Followed, caseBytes: string): string {
  if (followed.refused !== 0) return 'refuses';
  const last = followed.requests.at(-1) ?? '';
  const start = followed.starts.at(-1) ?? 0;
  if (last === 'GET /marker' && /^(\r\n)*$/.test(caseBytes.slice(start))) return 'follows';
  if (followed.pin !== 'none') return `pins ${followed.pin}`;
  return followed.in === 'body' ? 'waits' : `reads "${last}"`;
}

t.test('every case of the corpus', async (t) => {
  const cases = framingCases();
  t.ok(cases.length >= 150, `${cases.length} cases`);
  t.equal(new Set(cases.map(({ name }) => name)).size, cases.length, 'no name twice');
  for (const { name, verdict, bytes } of cases) {
    const stream = bytesOf(bytes + MARKER);
    const whole = follow(stream, [stream.length]);
    t.equal(verdictOf(whole, bytes), verdict, name);
    const wants = JSON.stringify(whole);
    const cuts = [...stream.keys()].map((at) => [at, stream.length]);
    for (const ends of stream.length < 1000
      ? [...cuts, Array.from(stream, (_, at) => at + 1)]
      : []) {
      const pieces = follow(stream, [...ends]);
      if (JSON.stringify(pieces) !== wants) t.same(pieces, whole, `${name}, cut at ${ends[0]}`);
    }
  }
});
