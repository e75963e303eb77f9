/**
 * How long a test waits for what must come, in ms. On a busy machine everything takes longer, and
 * this limit must not be the first to notice. It costs nothing while things are fine, and what is
 * lost still fails.
 */
export const PATIENCE_MS = 60_000;

/** How long a test file may take at the most, in ms: the runner ends it then. */
export const FILE_TIMEOUT_MS = 600_000;
