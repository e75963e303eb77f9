/**
 * How long a test waits for a fact, in ms. On a busy machine everything takes longer, and this
 * limit must not make a good test fail. It costs nothing in a good run, and a real loss still
 * fails.
 */
export const PATIENCE_MS = 60_000;

/** How long a test file may take, in ms. Then the runner ends it. */
export const FILE_TIMEOUT_MS = 600_000;
