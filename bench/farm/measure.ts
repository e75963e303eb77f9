/**
 * Rounds of one case: each contender once, in an order that turns, so that all of them meet the
 * same machine.
 */
import { curl } from '../../lab/clients/curl.js';
import { wrk } from '../../lab/clients/wrk.js';
import type { Case } from './cases.js';
import { type Contender, type Contest, urlOf } from './contenders.js';
import { withCpuUse } from './cpu.js';
import type { CaseResult, Round, Sample } from './results.js';

export interface Lengths {
  rounds: number;
  /** Of one sample. */
  seconds: number;
}

/** A round with more stolen time than this in any of its samples is thrown away and repeated. */
export const MOST_STOLEN = 0.1;

/** Until what is compiled while it runs is compiled, and what grows with connections has grown. */
const WARM_UP_SECONDS = 3;

/** `items`, beginning with another one each round. */
export function turned<T>(items: readonly T[], round: number): T[] {
  const first = items.length === 0 ? 0 : round % items.length;
  return [...items.slice(first), ...items.slice(0, first)];
}

/**
 * Measures a case. Rejects when a contender does not answer at all, or when too many rounds had to
 * be thrown away.
 */
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
        `${which.name}: ${result.discarded.length} rounds had more than ${MOST_STOLEN * 100} % stolen time; this machine is too busy to measure on`,
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
