/** AMB0115, AMB0306: the port of a service where the port of the workload is meant. */
import type { AuthorizationPolicy } from '../../objects/authorization-policy.ts';
import { type Finding, finding } from '../finding.ts';
import type { AnalysisView, Workload } from '../view.ts';
import { keyOf } from './keys.ts';

export function* checkPorts(policy: AuthorizationPolicy, view: AnalysisView): Iterable<Finding> {
  if (policy.targets.length > 0 || policy.selector === undefined) return;
  const workloads = [...view.workloadsOf(policy)];
  for (const { l4, field } of policy.rules.flatMap(({ clauses }) => clauses.flat())) {
    for (const port of l4.destinationPorts ?? []) {
      const mistake = servicePortOnly(port, workloads, view);
      if (mistake === undefined) continue;
      yield finding(
        'AMB0115',
        { object: keyOf(policy), field: field.includes('.when[') ? `${field}.values` : `${field}.ports` },
        `${port} ${mistake}`,
      );
    }
  }
}

/**
 * Says so when services of the workloads have the port, and it leads to another one, and none leads to it. Named target
 * ports may be anything.
 */
export function servicePortOnly(port: number, workloads: Iterable<Workload>, view: AnalysisView): string | undefined {
  let mistake: string | undefined;
  const seen = new Set<string>();
  for (const workload of workloads) {
    if (seen.has(workload.owner)) continue;
    seen.add(workload.owner);
    for (const service of view.servicesOf(workload)) {
      for (const { port: of, target } of service.ports) {
        if (target === port || (typeof target === 'string' && of !== port)) return undefined;
        if (of !== port) continue;
        const name = `${service.meta.namespace}/${service.meta.name}`;
        mistake ??= `is the port of service ${name}; its workloads listen on ${typeof target === 'number' ? target : `the port named ${target}`}`;
      }
    }
  }
  return mistake;
}
