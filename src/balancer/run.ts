/**
 * `baton balancer`: checks what a start needs, starts the balancer (start.ts), and runs it until a
 * signal ends it.
 *
 *     SIGTERM, SIGINT   stop: everything is undone
 *     SIGUSR2           leave: everything stays for the next run
 *     SIGHUP            the config file is read again
 *     SIGUSR1           the access log's file is opened again, as after a rotation
 */
import { checkSecrets } from '../api/secrets.js';
import { requireSocketPlace } from '../api/unix-socket.js';
import { reasonOf } from '../base/errors.js';
import { createLog } from '../base/log.js';
import { onSignals } from '../base/signals.js';
import { readKey } from '../config/key.js';
import { loadBalancerFile } from '../config/load.js';
import { requirePrivileges } from '../host/privilege.js';
import { AccessLog } from './access-log/access-log.js';
import { Ending, EndSteps, type Manner } from './ending.js';
import { preflight } from './machine/preflight.js';
import { firstSlots } from './objects/farm.js';
import { askToLeave } from './replacement.js';
import { start } from './start.js';

/** How long a balancer that was asked to leave may take, in ms. */
const LEAVE_MS = 10_000;
const RELOAD_SIGNAL = 'SIGHUP';
const REOPEN_SIGNAL = 'SIGUSR1';

/**
 * Runs the balancer until a signal ends it. Resolves to the exit code.
 * @param replace a running balancer is asked to leave, and its sessions are taken over
 * @throws BatonError for what keeps it from starting, or from running on. Nothing is left set up
 *   then, unless the kernel forwards sessions without us.
 */
export async function runBalancer(configFile: string, replace = false): Promise<number> {
  let accessLog: AccessLog | undefined;
  let reload: (() => void) | undefined;
  let reloadIsDue = false;
  // At once: without a listener, SIGUSR1 opens the debugger of Node.js, and SIGHUP ends the
  // process.
  onSignals([REOPEN_SIGNAL], () => accessLog?.reopen());
  onSignals([RELOAD_SIGNAL], () => {
    if (reload === undefined) reloadIsDue = true;
    else reload();
  });
  const loaded = loadBalancerFile(configFile);
  const { config } = loaded;
  requirePrivileges();
  const key = readKey(config.keyFile);
  const log = createLog({ level: config.log.level, program: 'balancer' });
  for (const warning of config.warnings) log.warn(warning);
  // Before anything is changed, and before a running balancer is asked to leave.
  await requireSocketPlace(config.controlSocket, replace);
  if (config.api !== undefined) checkSecrets(config.api);
  await preflight({ ...config, farm: firstSlots(config), key, log });
  const sessionLog = new AccessLog({ workers: config.workers, log });
  accessLog = sessionLog;
  const steps = new EndSteps();
  // Taken last: sessions end until the engine has ended.
  steps.add(() => sessionLog.stop());
  const end = new Ending();
  let manner: Manner = 'fail';
  let failed = false;
  try {
    await sessionLog.change(config.accessLog);
    if (replace) await askToLeave(config, log);
    reload = await start({
      loaded,
      key,
      log,
      end,
      steps,
      accessLog: sessionLog,
      patience: replace ? LEAVE_MS : 0,
    });
    if (reloadIsDue) reload();
    manner = await end.reached;
  } finally {
    const failures = await steps.take(manner);
    end.forget();
    for (const failure of failures) {
      log.error(
        `a step of the shutdown failed: ${reasonOf(failure)}; the next start, or --detach-all, cleans up`,
      );
      failed = true;
    }
  }
  if (manner === 'stop') log.info('stopped');
  else {
    log.info(
      `left; the kernel keeps forwarding its sessions, and the next start takes them over; \`baton balancer -c ${configFile} --detach-all\` removes everything`,
    );
  }
  return failed ? 1 : 0;
}
