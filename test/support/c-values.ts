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
  return run(header, '', expressions.map(printed).join('\n'));
}

/**
 * Values of one C expression for each row of a table. Its columns are __u32, and the expression
 * has a row as `row`. A compiler takes much longer for as many expressions.
 */
export function evaluateRows(
  header: string,
  columns: readonly string[],
  rows: readonly (readonly number[])[],
  expression: string,
): number[] {
  const fields = columns.map((name) => `__u32 ${name};`).join(' ');
  const values = rows.map((row) => `{ ${row.map((value) => `${value}U`).join(', ')} },`).join('\n');
  const table = `struct row { ${fields} };\nstatic const struct row rows[] = {\n${values}\n};\n`;
  const count = 'sizeof(rows) / sizeof(rows[0])';
  const loop = `for (const struct row *row = rows; row < rows + ${count}; row++)`;
  return run(header, table, `${loop}\n${printed(expression)}`);
}

function printed(expression: string): string {
  return `printf("%lu\\n", (unsigned long)(${expression}));`;
}

/** Compiles and runs a program that prints numbers. */
function run(header: string, definitions: string, statements: string): number[] {
  const folder = mkdtempSync(join(tmpdir(), 'baton-values-'));
  try {
    const program = `#include <stddef.h>\n#include <stdio.h>\n#include "${header}"\n${definitions}int main(void) {\n${statements}\nreturn 0;\n}\n`;
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
