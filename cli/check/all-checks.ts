/** Every check there is, in the order in which they are run and shown. */
import { AGENT_CHECKS } from './agent-checks.ts';
import type { Check } from './check.ts';
import { CONFIGURATION_CHECKS } from './configuration-checks.ts';
import { CONFLICT_CHECKS } from './conflict-checks.ts';
import { CONTROL_CHECKS } from './control-checks.ts';
import { KUBERNETES_CHECKS } from './kubernetes-checks.ts';
import { NODE_CHECKS } from './node-checks.ts';
import { TRAFFIC_CHECKS } from './traffic-checks.ts';

export const ALL_CHECKS: readonly Check[] = [
  ...KUBERNETES_CHECKS,
  ...CONFLICT_CHECKS,
  ...CONTROL_CHECKS,
  ...AGENT_CHECKS,
  ...NODE_CHECKS,
  ...TRAFFIC_CHECKS,
  ...CONFIGURATION_CHECKS,
];

/** Those that make sense before an installation, or after it. */
export function checksFor(moment: 'pre' | 'installed'): readonly Check[] {
  return ALL_CHECKS.filter(({ when }) => when === 'always' || when === moment);
}
