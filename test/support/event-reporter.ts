/**
 * Reporter for node:test that writes one JSON line per finished test to descriptor 3, where `test/run.ts` reads them. The
 * descriptor is open from the start of the process, so that tests which count descriptors are not disturbed. Suites do
 * not count as tests, and a parent that failed only because of its children is not reported again.
 */
import { writeSync } from 'node:fs';

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

/** Inherited from the runner. */
export const EVENTS_DESCRIPTOR = 3;

// biome-ignore lint/correctness/useYield: a reporter is a generator of output, and this one has none of its own
export default async function* reportEvents(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const path: string[] = [];
  for await (const event of source) {
    if (event.type === 'test:start') {
      path.length = event.data.nesting;
      path.push(event.data.name);
    }
    const outcome = outcomeOf(event, path);
    if (outcome !== undefined) writeSync(EVENTS_DESCRIPTOR, `${JSON.stringify(outcome)}\n`);
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
