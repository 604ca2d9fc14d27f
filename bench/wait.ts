/** Waiting for programs that say nothing when they are ready: asked again at short intervals, with a deadline. */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import type { Namespace } from './namespaces.ts';

const INTERVAL_MS = 30;
const DEADLINE_MS = 20_000;

/** Resolves when a socket of the namespace listens on the port; rejects when `program` ends before. */
export function awaitListening(namespace: Namespace, port: number, program: ChildProcess): Promise<void> {
  return awaitTrue(`a listener on port ${port}`, program, () => {
    return namespace.run('ss', '-Hltn', `sport = :${port}`).trim() !== '';
  });
}

/** Resolves when `test` holds; rejects when `program` ends or the deadline passes. */
export async function awaitTrue(
  what: string,
  program: ChildProcess,
  test: () => boolean | Promise<boolean>,
): Promise<void> {
  let errors = '';
  program.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    errors = (errors + chunk).slice(-2000);
  });
  const deadline = performance.now() + DEADLINE_MS;
  while (!(await test())) {
    const command = program.spawnargs.join(' ');
    if (program.exitCode !== null) throw new Error(`${command} ended with status ${program.exitCode}: ${errors}`);
    if (performance.now() > deadline) throw new Error(`${command}: no ${what} within ${DEADLINE_MS} ms: ${errors}`);
    await delay(INTERVAL_MS);
  }
}
