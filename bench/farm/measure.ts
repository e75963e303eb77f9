/**
 * Measures one case in rounds. Each round asks each contender once, and begins with another one, so
 * that all contenders meet the machine in the same states.
 */
import { curl } from '../../lab/clients/curl.js';
import { wrk } from '../../lab/clients/wrk.js';
import type { Case } from './cases.js';
import { type Contender, type Contest, urlOf } from './contenders.js';
import { withCpuUse } from './cpu.js';
import type { CaseResult, Round, Sample } from './results.js';

export interface Lengths {
  rounds: number;
  /** Length of one sample. */
  seconds: number;
}

/** A round with a larger share of stolen time in any sample is discarded and repeated. */
export const MOST_STOLEN = 0.1;

/** Time until code is compiled, and until tables that grow with connections have grown. */
const WARM_UP_SECONDS = 3;

/** Returns `items` in their order, but beginning with another one each round. */
export function turned<T>(items: readonly T[], round: number): T[] {
  const first = items.length === 0 ? 0 : round % items.length;
  return [...items.slice(first), ...items.slice(0, first)];
}

/** Measures a case. Rejects if a contender does not answer, or too many rounds were discarded. */
export async function measureCase(
  contest: Contest,
  which: Case,
  lengths: Lengths,
): Promise<CaseResult> {
  const result: CaseResult = { case: which, rounds: [], discarded: [] };
  for (const contender of contest.contenders) {
    await warmUp(contest, contender, which);
  }
  for (let turn = 0; result.rounds.length < lengths.rounds; turn++) {
    const round: Round = {};
    for (const contender of turned(contest.contenders, turn)) {
      round[contender.id] = await sample(contest, contender, which, lengths.seconds);
    }
    const stolen = Math.max(...Object.values(round).map((one) => one.stolen));
    (stolen > MOST_STOLEN ? result.discarded : result.rounds).push(round);
    if (result.discarded.length > 2 * lengths.rounds) {
      throw new Error(
        `${which.name}: ${result.discarded.length} rounds had more than ${MOST_STOLEN * 100} % stolen time; this machine is too busy for measurements`,
      );
    }
  }
  return result;
}

async function warmUp({ farm }: Contest, contender: Contender, which: Case): Promise<void> {
  const { name } = contender;
  const url = urlOf(contender, which.file, which.bytes);
  const answer = await curl(farm.client, url);
  if (answer.status !== 200 || answer.body.length !== which.bytes) {
    throw new Error(
      `${which.name}, ${name}: status ${answer.status}, ${answer.body.length} bytes, ${answer.error}`,
    );
  }
  const { connections, threads, close } = which;
  await wrk(farm.client, url, { connections, threads, close, seconds: WARM_UP_SECONDS });
}

async function sample(
  { farm }: Contest,
  contender: Contender,
  which: Case,
  seconds: number,
): Promise<Sample> {
  const { name, between } = contender;
  const url = urlOf(contender, which.file, which.bytes);
  const { connections, threads, close } = which;
  const crossed = async (): Promise<number> => (await between?.traffic())?.receivedBytes ?? 0;
  const before = await crossed();
  const { result, use } = await withCpuUse(() =>
    wrk(farm.client, url, { connections, threads, close, seconds }),
  );
  const crossing = (await crossed()) - before;
  const { requests, failed, perSecond, p50, p99 } = result;
  if (requests === 0) {
    throw new Error(
      `${which.name}, ${name}: no request was answered: ${JSON.stringify(result.errors)}`,
    );
  }
  return {
    requests,
    failed,
    perSecond,
    p50,
    p99,
    cpu: use.busy / requests,
    stolen: use.stolen,
    ...(between === undefined ? {} : { crossing: crossing / requests }),
  };
}
