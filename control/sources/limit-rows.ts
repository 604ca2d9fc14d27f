/** The rows of the sources in the table of limits. */
import type { ControlLimitRow } from '../limits.ts';
import { KUBERNETES_SOURCE_LIMITS } from './kubernetes.ts';

export const SOURCE_LIMIT_ROWS: readonly ControlLimitRow[] = [
  {
    name: 'KUBERNETES_SOURCE_LIMITS.sliceObjects',
    value: `${KUBERNETES_SOURCE_LIMITS.sliceObjects} objects`,
    meaning: 'changed objects of the cluster that are taken over in one turn',
    atTheLimit: 'the rest waits for the next turns; of an object only its latest version waits',
  },
  {
    name: 'KUBERNETES_SOURCE_LIMITS.maxProblems',
    value: `${KUBERNETES_SOURCE_LIMITS.maxProblems} problems`,
    meaning: 'invalid objects that are reported',
    atTheLimit: 'the rest is counted; policies that cannot be read have their stand-ins whatever their number',
  },
];
