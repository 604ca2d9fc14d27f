/**
 * Services for pods outside the mesh: what kube-proxy and DNS do in a cluster. Pure: text in, text out.
 *
 * Enrolled pods never meet these rules, their agent picks the endpoint; a pod that is not captured dials the service's
 * address like any other, and its node translates it to one of the ready endpoints with equal chances.
 */
import { selects } from '../control/objects/metadata.ts';
import type { Service } from '../control/objects/service.ts';

/** A running pod as far as services care. */
export interface EndpointPod {
  readonly namespace: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly ip: string;
  readonly namedPorts: ReadonlyMap<string, number>;
}

const TABLE = 'sandbox_services';

/** An nft script that replaces the node's translation table with one for these services and endpoints. */
export function renderServiceRules(services: readonly Service[], pods: readonly EndpointPod[]): string {
  const rules: string[] = [];
  for (const service of services) {
    if (service.selector.size === 0) continue;
    const endpoints = pods.filter(
      (pod) => pod.namespace === service.meta.namespace && selects(service.selector, pod.labels),
    );
    for (const port of service.ports) {
      if (port.protocol !== 'TCP') continue;
      const targets = endpoints.flatMap((pod) => {
        const target = typeof port.target === 'number' ? port.target : pod.namedPorts.get(port.target);
        return target === undefined ? [] : [`${pod.ip}:${target}`];
      });
      for (const clusterIp of service.clusterIps.filter((ip) => !ip.includes(':'))) {
        const match = `ip daddr ${clusterIp} tcp dport ${port.port}`;
        targets.forEach((target, index) => {
          const rest = targets.length - index;
          const chance = rest === 1 ? '' : ` numgen random mod ${rest} 0`;
          rules.push(`    ${match}${chance} dnat to ${target}`);
        });
      }
    }
  }
  return [
    `add table ip ${TABLE}`,
    `delete table ip ${TABLE}`,
    `table ip ${TABLE} {`,
    '  chain prerouting {',
    '    type nat hook prerouting priority dstnat; policy accept;',
    ...rules,
    '  }',
    '}',
    '',
  ].join('\n');
}

/**
 * The hosts file of the pods of one namespace: every service under its full names, those of the same namespace also
 * under the short one.
 */
export function renderHosts(namespace: string, services: readonly Service[], clusterDomain: string): string {
  const lines = ['127.0.0.1 localhost', '::1 localhost'];
  for (const { meta, clusterIps } of services) {
    const [ip] = clusterIps;
    if (ip === undefined) continue;
    const base = `${meta.name}.${meta.namespace}`;
    const short = meta.namespace === namespace ? `${meta.name} ` : '';
    lines.push(`${ip} ${short}${base} ${base}.svc ${base}.svc.${clusterDomain}`);
  }
  return `${lines.join('\n')}\n`;
}
