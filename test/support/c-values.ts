/** Values of the C headers in bpf/lib, as a C compiler computes them. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

const headers = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..', 'bpf', 'lib');

/** Values of C expressions, computed by a program that includes the header of this name. */
export function evaluate(header: string, expressions: readonly string[]): number[] {
  const folder = mkdtempSync(join(tmpdir(), 'baton-values-'));
  try {
    const lines = expressions.map(
      (expression) => `printf("%lu\\n", (unsigned long)(${expression}));`,
    );
    const program = `#include <stddef.h>\n#include <stdio.h>\n#include "${header}"\nint main(void) {\n${lines.join('\n')}\nreturn 0;\n}\n`;
    writeFileSync(join(folder, 'values.c'), program);
    execFileSync('gcc', [
      '-Wall',
      '-Wextra',
      '-Werror',
      '-I',
      headers,
      '-o',
      join(folder, 'values'),
      join(folder, 'values.c'),
    ]);
    return execFileSync(join(folder, 'values'), { encoding: 'utf8' })
      .trim()
      .split('\n')
      .map(Number);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Asserts that each expression has its value. */
export function check(
  test: Test,
  header: string,
  pairs: readonly (readonly [expression: string, value: number])[],
): void {
  const values = evaluate(
    header,
    pairs.map(([expression]) => expression),
  );
  test.equal(values.length, pairs.length);
  pairs.forEach(([expression, value], index) => {
    test.equal(value, values[index], expression);
  });
}
