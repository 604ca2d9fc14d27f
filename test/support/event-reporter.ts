/**
 * Reporter for node:test that writes one JSON line per finished test; `test/run.ts` reads them. Suites do not count as
 * tests, and a parent that failed only because of its children is not reported again.
 */

import type { TestEvent } from 'node:test/reporters';
import { inspect } from 'node:util';

/** What the runner learns about one test. */
export interface TestOutcome {
  readonly result: 'passed' | 'failed' | 'skipped';
  /** Names from the outermost suite inwards. */
  readonly name: string;
  readonly durationMs: number;
  /** Why it failed or was skipped. */
  readonly reason?: string;
}

export default async function* reportEvents(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const path: string[] = [];
  for await (const event of source) {
    if (event.type === 'test:start') {
      path.length = event.data.nesting;
      path.push(event.data.name);
    }
    const outcome = outcomeOf(event, path);
    if (outcome !== undefined) yield `${JSON.stringify(outcome)}\n`;
  }
}

function outcomeOf(event: TestEvent, path: readonly string[]): TestOutcome | undefined {
  if (event.type === 'test:pass') {
    const { details, skip, nesting } = event.data;
    if (details.type === 'suite') return undefined;
    const facts = { name: nameOf(path, nesting, event.data.name), durationMs: details.duration_ms };
    if (skip === undefined || skip === false) return { result: 'passed', ...facts };
    return { result: 'skipped', ...facts, reason: typeof skip === 'string' ? skip : 'no reason given' };
  }
  if (event.type === 'test:fail') {
    const { details, nesting } = event.data;
    const { error } = details;
    if ('failureType' in error && error.failureType === 'subtestsFailed') return undefined;
    const reason = inspect(error.cause ?? error, { depth: 4, colors: false });
    return { result: 'failed', name: nameOf(path, nesting, event.data.name), durationMs: details.duration_ms, reason };
  }
  return undefined;
}

function nameOf(path: readonly string[], nesting: number, name: string): string {
  return [...path.slice(0, nesting), name].join(' > ');
}
