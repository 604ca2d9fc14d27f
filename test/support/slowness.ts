/** The machine's other load, for tests that measure time: a bound on a quiet machine times this is fair on a busy one. */

/** How much longer everything takes because other processes want the cores as well: 1 on a quiet machine. */
export function slowness(): number {
  const [startedMs, usage] = [performance.now(), process.cpuUsage()];
  for (;;) {
    const { user, system } = process.cpuUsage(usage);
    if (user + system >= 30_000) return Math.max(1, (performance.now() - startedMs) / ((user + system) / 1000));
  }
}
