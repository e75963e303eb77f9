/**
 * Time that this process has had a processor, in ns, to the nearest µs: unlike the time of a clock
 * it does not grow while others have it.
 */
export function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}
