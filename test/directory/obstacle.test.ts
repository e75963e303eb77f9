/** Why a node does not take a session. */
import fc from 'fast-check';
import t from 'tap';
import { Admin } from '../../src/directory/node-memory.js';
import { ownStates } from '../../src/directory/node-states.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';

const OPTIONS = IxpFlag.windowScaleOk | IxpFlag.timestampsOk | IxpFlag.sackOk;
const NOW = 100_000;

t.test('there is an obstacle exactly when the node is not available', async (t) => {
  fc.assert(
    fc.property(
      fc.record({
        admin: fc.constantFrom(Admin.up, Admin.draining, Admin.maintenance),
        flags: fc.option(fc.nat(0xff)),
        lacks: fc.boolean(),
        timeouts: fc.nat(4),
        refusals: fc.nat(4),
        stalls: fc.boolean(),
        options: fc.nat(7),
        later: fc.constantFrom(0, 500, 1_500, 6_000, Number.POSITIVE_INFINITY),
      }),
      ({ admin, flags, lacks, timeouts, refusals, stalls, options, later }) => {
        const states = ownStates([{ weight: 1 }], 2);
        states.setAdmin(0, admin);
        if (flags !== null) states.reported(0, 1, 1, flags, NOW);
        states.setLacks(0, 1, lacks);
        for (let i = 0; i < timeouts; i++) states.handoffTimedOut(0, NOW);
        for (let i = 0; i < refusals; i++) states.handoffRefused(0, 1, IxcpReason.noListener, NOW);
        if (stalls) states.serverStalled(0, 1, NOW);
        const at = NOW + later;
        for (const server of [0, 1]) {
          const found = states.obstacle(0, server, options, at);
          if ((found === undefined) !== states.available(0, server, options, at))
            throw new Error(`${found?.obstacle} of ${server}`);
        }
      },
    ),
    { numRuns: 1_000 },
  );
  t.pass('for many states');
});

t.test('each obstacle has its name, and its end where there is one', async (t) => {
  const states = ownStates([{ weight: 1 }], 2);
  const is = (expected: unknown, server = 0): void => {
    t.same(states.obstacle(0, server, OPTIONS, NOW), expected);
  };
  is(undefined);
  states.setAdmin(0, Admin.draining);
  is({ obstacle: 'draining', forMs: null });
  states.setAdmin(0, Admin.maintenance);
  is({ obstacle: 'maintenance', forMs: null });
  states.setAdmin(0, Admin.up);
  states.reported(0, 1, 1, 0, NOW);
  is({ obstacle: 'unable', forMs: null });
  states.reported(0, 1, 2, IxcpFlag.canAdopt | IxcpFlag.noTimestamps, NOW);
  is({ obstacle: 'options', forMs: null });
  states.reported(0, 1, 3, IxcpFlag.canAdopt, NOW);
  states.setLacks(0, 1, true);
  is(undefined);
  is({ obstacle: 'address', forMs: null }, 1);
  states.serverStalled(0, 0, NOW - 1_000);
  is({ obstacle: 'resting', forMs: 4_000 });
  for (let i = 0; i < 3; i++) states.handoffTimedOut(0, NOW - 2_000);
  is({ obstacle: 'suspended', forMs: 3_000 });
});
