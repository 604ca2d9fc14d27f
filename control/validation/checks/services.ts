/** AMB0401: a Service whose selector finds nothing. */

import { selects } from '../../objects/metadata.ts';
import type { Service } from '../../objects/service.ts';
import type { Check } from '../check.ts';
import { type Finding, finding } from '../finding.ts';
import type { AnalysisView } from '../view.ts';
import { keyOf } from './keys.ts';

function* checkServiceSelector(service: Service, view: AnalysisView): Iterable<Finding> {
  if (service.selector.size === 0 || service.type === 'ExternalName') return;
  const { namespace } = service.meta;
  if (view.workloadsIn(namespace).some(({ labels }) => selects(service.selector, labels)) || !view.knowsWorkloads)
    return;
  const labels = [...service.selector].map(([key, value]) => `${key}=${value}`).join(', ');
  yield finding(
    'AMB0401',
    { object: keyOf(service), field: 'spec.selector' },
    `no workload of namespace ${namespace} has ${labels}`,
  );
}

export const SERVICE_CHECKS: readonly Check<'Service'>[] = [checkServiceSelector];
