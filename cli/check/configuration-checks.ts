/** What `ambit analyze` finds, by what it concerns: network policies, labels, policies of the mesh. */
import { describeObject, type Finding } from '../../control/validation/finding.ts';
import type { Check, CheckOutcome } from './check.ts';
import { outcomes } from './check.ts';

const NETWORK_POLICIES: ReadonlySet<string> = new Set(['AMB0203', 'AMB0206']);
const LABELS: ReadonlySet<string> = new Set(['AMB0201', 'AMB0202', 'AMB0204', 'AMB0205']);
/** Findings of one check that are shown. */
const MOST_SHOWN = 20;

export const CONFIGURATION_CHECKS: readonly Check[] = [
  of({
    id: 'netpol.port15008',
    about:
      'No NetworkPolicy keeps tunnels (TCP 15008) from captured pods; a companion policy that lets them in can be printed.',
    wants: ({ code }) => NETWORK_POLICIES.has(code),
    fine: 'no NetworkPolicy stands in the way of tunnels',
  }),
  of({
    id: 'labels.mode',
    about: 'The label istio.io/dataplane-mode stands where it works and is spelt so that it works.',
    wants: ({ code }) => LABELS.has(code),
    fine: 'every label does what it says',
  }),
  of({
    id: 'policies.effect',
    about: 'Policies and other objects of the mesh are enforced as they are written.',
    wants: ({ code }) => !NETWORK_POLICIES.has(code) && !LABELS.has(code),
    fine: 'everything is enforced as written',
  }),
];

interface FindingCheck {
  readonly id: string;
  readonly about: string;
  wants(found: Finding): boolean;
  readonly fine: string;
}

function of({ id, about, wants, fine }: FindingCheck): Check {
  return {
    id,
    group: 'traffic',
    about,
    when: 'installed',
    async run(world) {
      const found = (await world.findings()).filter((one) => one.severity !== 'info').filter(wants);
      const problems = found.slice(0, MOST_SHOWN).map(outcomeOf);
      if (found.length > MOST_SHOWN)
        problems.push({ level: 'warning', text: `and ${found.length - MOST_SHOWN} more`, fix: 'ambit analyze' });
      return outcomes(problems, fine);
    },
  };
}

function outcomeOf({ severity, code, object, field, message, fix, companion }: Finding): CheckOutcome {
  const text = `${describeObject(object)} ${field === '' ? '' : `${field} `}${message}`;
  const level = severity === 'error' ? 'failed' : 'warning';
  const [, namespace = '', name = ''] = object.split('/');
  const next = companion === undefined ? fix : `ambit netpol companion ${namespace}/${name} | kubectl apply -f -`;
  return { level, text, code, fix: next };
}
