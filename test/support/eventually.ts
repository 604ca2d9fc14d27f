/** Repeats a check until it does not throw, for states that are only visible by looking (a log file, a counter). */
const STEP_MS = 20;

/** The value of the first success; after `timeoutMs` the last failure, named. */
export async function eventually<T>(what: string, check: () => T | Promise<T>, timeoutMs = 5000): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`, { cause: error });
    }
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
}
