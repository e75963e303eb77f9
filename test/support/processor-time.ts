/**
 * Processor time of this process in ns, with a resolution of 1 µs. Unlike the time of a clock, it
 * does not grow while other processes run.
 */
export function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}
