/** Plays conversations over a wire: many at the same time, each from a port of its own. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../../lab/farm/host.js';
import { build } from '../../lab/packet.js';
import { PATIENCE_MS } from '../../lab/patience.js';
import { Wire } from '../../lab/probes/wire.js';
import { parse } from '../support/packet-parse.js';
import type { Event } from './events.js';
import type { Answers } from './page.js';
import type { Place, Stage } from './places.js';
import { type Origin, Talk, type Target } from './talk.js';
import { markOf, transcriptOf } from './transcript.js';

const FIRST_PORT = 10_000;
/** Ports of barriers have no connection. */
const FIRST_BARRIER_PORT = 2_000;
const BARRIER_PORTS = 7_000;
const BARRIER_AGAIN_MS = 100;
/** The balancer sends at most 1,000 RSTs a second, and the events need some of them. */
const BARRIER_EACH_MS = 2;
/** Where nothing is expected yet: how long a server must have been silent. */
const SILENT_MS = 300;
/** An answer that does not come in this time is a difference. */
const ANSWER_MS = 10_000;

export class Player {
  private readonly talks = new Map<number, Talk>();
  private readonly barriers = new Map<number, () => void>();
  private waiting = new Set<() => void>();
  private readonly origin: Origin;
  /** A port that answers an ACK of no connection with RST, at each machine. */
  private readonly answering: number;
  private wire: Wire | undefined;
  private port = FIRST_PORT;
  private barrierPort = 0;
  /** When the next barrier may go to an address, in ms. */
  private readonly barrierAt = new Map<string, number>();

  private constructor(origin: Origin, answering: number) {
    this.origin = origin;
    this.answering = answering;
  }

  /** @param answering a port at which each machine answers an ACK of no connection with RST */
  static async open(host: Host, address: string, answering: number): Promise<Player> {
    const player = new Player({ mac: host.mac, address }, answering);
    player.wire = await Wire.open(host, address, (frame) => player.hear(frame));
    return player;
  }

  async close(): Promise<void> {
    await this.wire?.close();
  }

  /**
   * Plays one conversation, and returns what the server has answered.
   * @param target port 0: its `port` is that of the server
   * @param behind machines that may still process what the target has forwarded
   * @param normal what of a transcript counts
   * @param expected undefined: the answers are unknown, and silence ends each step
   */
  async play(
    place: Place,
    event: Event,
    target: Target,
    behind: readonly Target[],
    expected: Answers | undefined,
    normal: (transcript: string) => string,
  ): Promise<Answers> {
    const talk = new Talk(this.origin, target, this.port++, (frame) => this.wire?.send([frame]));
    this.talks.set(talk.port, talk);
    const stage: Stage = {
      until: (test, what) => this.until(test, what, talk),
      processed: () => this.processed([{ ...target, port: this.answering }, ...behind]),
    };
    const step = async (act: () => void, wanted: string | undefined): Promise<string> => {
      const mark = markOf(talk);
      act();
      const said = (): string => normal(transcriptOf(talk, mark));
      await this.settle(talk, said, wanted === undefined ? wanted : normal(wanted), stage);
      return said();
    };
    await place.begin(talk, stage);
    const answer = await step(() => event.play(talk), expected?.answer);
    const later = await step(() => place.goOn(talk), expected?.later);
    this.talks.delete(talk.port);
    return { answer, later };
  }

  private async settle(
    talk: Talk,
    said: () => string,
    wanted: string | undefined,
    stage: Stage,
  ): Promise<void> {
    if (wanted !== undefined) {
      await this.holds(() => said() === wanted, ANSWER_MS);
      await stage.processed();
      return;
    }
    for (let known = -1; known !== talk.heard.length; ) {
      known = talk.heard.length;
      await sleep(SILENT_MS);
    }
    await stage.processed();
  }

  private async until(test: () => boolean, what: string, talk: Talk): Promise<void> {
    if (await this.holds(test, PATIENCE_MS)) return;
    throw new Error(
      `not heard: ${what}; heard: ${transcriptOf(
        talk,
        markOf(new Talk(this.origin, talk.target, 0, () => {})),
      )}`,
    );
  }

  /** Whether a test of what was heard holds in time. */
  private async holds(test: () => boolean, limitMs: number): Promise<boolean> {
    const limit = Date.now() + limitMs;
    while (!test()) {
      const left = limit - Date.now();
      if (left <= 0) return false;
      await this.next(left);
    }
    return true;
  }

  /** Waits for the next frame, but not longer than this. */
  private next(limitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, limitMs);
      this.waiting.add(done);
    });
  }

  /**
   * Waits until each of the targets, one after the other, has answered a segment of no connection
   * with RST. All frames that were sent there before have then been processed.
   */
  private async processed(targets: readonly Target[]): Promise<void> {
    for (const target of targets) {
      let answered = false;
      const limit = Date.now() + PATIENCE_MS;
      while (!answered) {
        if (Date.now() > limit) throw new Error(`${target.address} answers no ACK with RST`);
        await this.pace(target.address);
        const port = FIRST_BARRIER_PORT + (this.barrierPort++ % BARRIER_PORTS);
        this.barriers.set(port, () => {
          answered = true;
        });
        this.wire?.send([
          build({
            ethernet: { source: this.origin.mac, destination: target.mac },
            ip: { source: this.origin.address, destination: target.address },
            tcp: {
              sourcePort: port,
              destinationPort: target.port,
              seq: port,
              ack: 1,
              flags: target.refused ?? 'A',
            },
          }),
        ]);
        await this.holds(() => answered, BARRIER_AGAIN_MS);
        this.barriers.delete(port);
      }
    }
  }

  private async pace(address: string): Promise<void> {
    const now = performance.now();
    const at = Math.max(now, this.barrierAt.get(address) ?? 0);
    this.barrierAt.set(address, at + BARRIER_EACH_MS);
    if (at > now) await sleep(at - now);
  }

  private hear(frame: Buffer): void {
    const packet = parse(frame);
    const port = packet.tcp?.destinationPort ?? 0;
    if (packet.tcp?.flags.includes('R') === true) this.barriers.get(port)?.();
    this.talks.get(port)?.hear(packet);
    const { waiting } = this;
    this.waiting = new Set();
    for (const go of waiting) go();
  }
}
