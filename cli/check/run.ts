/** Runs checks one after another and gathers what they found. A check that fails to look is a `skipped` outcome with the reason. */
import { toAmbitError } from '../../core/errors.ts';
import type { Check, CheckOutcome, CheckResult } from './check.ts';
import type { CheckWorld } from './world.ts';

/** A single check must not hold up the others for ever. */
const CHECK_TIMEOUT_MS = 30_000;

export async function runChecks(checks: readonly Check[], world: CheckWorld): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  for (const check of checks) {
    for (const outcome of await look(check, world)) {
      results.push({ id: check.id, group: check.group, hint: hintOf(check.id), ...outcome });
    }
  }
  return results;
}

/** Where the documentation explains a check. */
export function hintOf(id: string): string {
  return `docs/CHECKS.md#${id.replaceAll('.', '')}`;
}

/** 0: all well, 1: something is worth a look, 2: something does not work. */
export function exitCodeOf(results: readonly CheckResult[]): 0 | 1 | 2 {
  if (results.some(({ level }) => level === 'failed')) return 2;
  return results.some(({ level }) => level === 'warning' || level === 'skipped') ? 1 : 0;
}

async function look(check: Check, world: CheckWorld): Promise<readonly CheckOutcome[]> {
  const { promise: overdue, resolve } = Promise.withResolvers<readonly CheckOutcome[]>();
  const text = `no answer within ${CHECK_TIMEOUT_MS / 1000} s`;
  const timer = setTimeout(resolve, CHECK_TIMEOUT_MS, [{ level: 'skipped', text }]);
  try {
    return await Promise.race([check.run(world), overdue]);
  } catch (thrown) {
    return [{ level: 'skipped', text: `could not be looked at: ${toAmbitError(thrown, 'USAGE').message}` }];
  } finally {
    clearTimeout(timer);
  }
}
