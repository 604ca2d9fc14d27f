/** The checks of an AuthorizationPolicy, AMB01xx. */
import type { Check } from '../check.ts';
import { checkIdentities } from './identities.ts';
import { checkL7 } from './l7.ts';
import { checkPorts } from './ports.ts';
import { checkRules } from './rules.ts';
import { checkSelection } from './selection.ts';
import { checkTargets } from './targets.ts';

export const AUTHORIZATION_CHECKS: readonly Check<'AuthorizationPolicy'>[] = [
  checkL7,
  checkTargets,
  checkSelection,
  checkRules,
  checkIdentities,
  checkPorts,
];
