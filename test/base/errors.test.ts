/** The text of an error. */
import t from 'tap';
import { BatonError } from '../../src/base/errors.js';

t.test('the line of an error says where and what to do', async (t) => {
  const error = new BatonError('BATON_KEY', 'too short', {
    where: 'key.hex',
    hint: 'run `baton key`',
  });
  t.equal(error.toLine(), 'key.hex: too short (run `baton key`)');
  t.equal(new BatonError('BATON_SYSTEM', 'odd').toLine(), 'odd');
});
