/** What a reload does to the parts that have settings of their own. */
import t from 'tap';
import { accessLogOf } from '../../src/balancer/settings.js';
import type { AccessLogConfig, BalancerConfig } from '../../src/config/load.js';

t.test('a reload turns an access log on again whose thread has failed', async (t) => {
  const changes: unknown[] = [];
  const accessLog = {
    isOn: true,
    change: async (wish: AccessLogConfig | undefined) => void changes.push(wish),
  };
  const wish: AccessLogConfig = { file: '/var/log/baton/access.json', format: 'json' };
  const part = accessLogOf(accessLog, wish);
  const reload = (wanted: AccessLogConfig | undefined) =>
    part.prepare({ accessLog: wanted } as BalancerConfig);
  await reload({ ...wish });
  t.same(changes, [], 'nothing has changed');
  accessLog.isOn = false;
  await reload({ ...wish });
  t.same(changes, [wish]);
  await reload(undefined);
  await reload(undefined);
  t.same(changes, [wish, undefined], 'a log that is off on purpose stays off');
});
