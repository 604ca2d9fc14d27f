/**
 * What a check is: a stable id, a group, and a function that looks and tells. Checks never throw on purpose and never
 * change anything; one that cannot look says so as its outcome.
 */
import type { CheckWorld } from './world.ts';

/** `ok` as it should be, `warning` worth a look, `failed` something does not work, `skipped` could not be looked at. */
export type CheckLevel = 'ok' | 'warning' | 'failed' | 'skipped';

export interface CheckOutcome {
  readonly level: CheckLevel;
  /** What was found, with numbers and units. */
  readonly text: string;
  /** The next thing to type or to change. */
  readonly fix?: string;
  /** Of docs/ANALYSIS.md, where the finding has one. */
  readonly code?: string;
}

export interface Check {
  /** Stable: scripts and pages refer to it. `<group>.<what>`. */
  readonly id: string;
  readonly group: CheckGroup;
  /** One sentence for docs/CHECKS.md: what must hold and why. */
  readonly about: string;
  /** Before an installation, after it, or both. */
  readonly when: 'pre' | 'installed' | 'always';
  /** Several outcomes where several things are looked at; at least one. */
  run(world: CheckWorld): Promise<readonly CheckOutcome[]>;
}

export const CHECK_GROUPS = [
  'kubernetes',
  'conflicts',
  'control plane',
  'identity',
  'node agents',
  'nodes',
  'traffic',
] as const;
export type CheckGroup = (typeof CHECK_GROUPS)[number];

export interface CheckResult extends CheckOutcome {
  readonly id: string;
  readonly group: CheckGroup;
  /** Where docs/CHECKS.md explains it. */
  readonly hint: string;
}

export function ok(text: string): CheckOutcome[] {
  return [{ level: 'ok', text }];
}

export function warning(text: string, fix?: string): CheckOutcome {
  return fix === undefined ? { level: 'warning', text } : { level: 'warning', text, fix };
}

export function failed(text: string, fix?: string): CheckOutcome {
  return fix === undefined ? { level: 'failed', text } : { level: 'failed', text, fix };
}

export function skipped(text: string): CheckOutcome[] {
  return [{ level: 'skipped', text }];
}

/** `problems` where there are any, else that all is well. */
export function outcomes(problems: readonly CheckOutcome[], fine: string): readonly CheckOutcome[] {
  return problems.length > 0 ? problems : ok(fine);
}

/** `count` things by name: `a, b, c and 4 more`. */
export function nameSome(names: readonly string[], most = 5): string {
  const shown = names.slice(0, most).join(', ');
  return names.length <= most ? shown : `${shown} and ${names.length - most} more`;
}
