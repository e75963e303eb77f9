/** Parts of a balancer with settings of their own in the config, which a reload may change. */
import type { ControlApi } from '../api/server.js';
import type { ProgramLog } from '../base/log.js';
import type { BalancerConfig } from '../config/load.js';
import { type Endpoint, formatEndpoint } from '../wire/address.js';
import type { AccessLog } from './access-log/access-log.js';
import { MetricsServer } from './metrics/metrics-server.js';
import type { Configurable } from './objects/changes.js';

const NOTHING = async (): Promise<void> => {};

export function levelOf(log: ProgramLog): Configurable {
  return {
    prepare: async ({ log: { level } }) => ({
      commit: async () => log.setLevel(level),
      abandon: NOTHING,
    }),
  };
}

/** The API over TLS. Certificate and tokens are read again with each config. */
export function remoteOf(api: ControlApi): Configurable {
  return { prepare: (config) => api.prepareRemote(config.api) };
}

/** @param present the access log as the config of the start says */
export function accessLogOf(
  accessLog: Pick<AccessLog, 'change' | 'isOn'>,
  present: BalancerConfig['accessLog'],
): Configurable {
  let running = present;
  return {
    prepare: async ({ accessLog: wanted }) => {
      const before = running;
      const same = JSON.stringify(wanted) === JSON.stringify(before);
      // The log thread may have failed.
      if (same && accessLog.isOn === (wanted !== undefined))
        return { commit: NOTHING, abandon: NOTHING };
      // This opens the new file, which is all that can fail.
      await accessLog.change(wanted);
      running = wanted;
      return {
        commit: NOTHING,
        abandon: async () => {
          await accessLog.change(before);
          running = before;
        },
      };
    },
  };
}

/** The listener for Prometheus: none, or one at a time. */
export class MetricsListener implements Configurable {
  private readonly text: () => Promise<string>;
  private readonly log: { info(message: string): void };
  private running: { listen: Endpoint; server: MetricsServer } | undefined;

  /** @param text makes the text of `/metrics` */
  constructor(text: () => Promise<string>, log: { info(message: string): void }) {
    this.text = text;
    this.log = log;
  }

  /** Starts a listener beside the present one. See Configurable. */
  async prepare({ metrics }: Pick<BalancerConfig, 'metrics'>) {
    const before = this.running;
    const where = (listen: Endpoint | undefined): string =>
      listen === undefined ? '' : formatEndpoint(listen);
    if (where(metrics?.listen) === where(before?.listen))
      return { commit: NOTHING, abandon: NOTHING };
    const listen = metrics?.listen;
    const next =
      listen === undefined
        ? undefined
        : { listen, server: await MetricsServer.start(listen, this.text) };
    return {
      commit: async () => {
        this.running = next;
        if (listen !== undefined)
          this.log.info(`metrics at http://${formatEndpoint(listen)}/metrics`);
        await before?.server.stop();
      },
      abandon: async () => next?.server.stop(),
    };
  }

  async stop(): Promise<void> {
    await this.running?.server.stop();
  }
}
