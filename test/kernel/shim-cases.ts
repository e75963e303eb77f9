/** Tests of the shim as tables: a session in the map, a frame, and its outcome. */
import type { Test } from 'tap';
import { build, type PacketSpec } from '../../lab/packet.js';
import { KEY, type SessionSpec, type Shim, sessionKey, sessionValue } from './shim-fixture.js';

export const Verdict = { ok: 0, drop: 2, redirect: 7 } as const;
export const passed = { verdict: Verdict.ok };
export const dropped = { verdict: Verdict.drop };

export interface Case {
  name: string;
  /** The session in the map, before the frame. */
  session?: SessionSpec;
  frame: PacketSpec | Uint8Array;
  mark?: number;
  verdict: number;
  /** Default: the frame, unchanged. */
  out?: PacketSpec;
  /** Default: 0. */
  markOut?: number;
  counters: readonly string[];
}

export const bytesOf = (frame: PacketSpec | Uint8Array): Uint8Array =>
  frame instanceof Uint8Array ? frame : build(frame, KEY);

/** Runs `program` over the frame of each case, and compares verdict, frame, mark and counters. */
export function runCases(t: Test, shim: Shim, program: string, cases: readonly Case[]): void {
  for (const { name, session, frame, mark = 0, verdict, out, markOut = 0, counters } of cases) {
    shim.object.mapDelete('sessions', sessionKey);
    if (session !== undefined) shim.object.mapUpdate('sessions', sessionKey, sessionValue(session));
    const bytes = bytesOf(frame);
    const rose = shim.counted(() => {
      const result = shim.object.testRun(program, bytes, { mark });
      t.equal(result.verdict, verdict, `${name}: verdict`);
      t.equal(result.mark, markOut, `${name}: mark`);
      t.strictSame(
        Buffer.from(result.frame).toString('hex'),
        Buffer.from(out === undefined ? bytes : bytesOf(out)).toString('hex'),
        `${name}: frame`,
      );
    });
    t.strictSame(rose, counters, `${name}: counters`);
  }
}
