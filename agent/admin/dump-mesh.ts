/**
 * Workloads, services and policies in the JSON shape that `istioctl ztunnel-config` reads: names of keys and of values
 * are Istio's. Pure; absent values are left out.
 */
import { type CidrBlock, ipFromBytes } from '../../core/ip.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { Policy, PolicyMatch, StringMatch } from '../state/policy.ts';
import type { Service } from '../state/service.ts';
import { formatGateway, type GatewayAddress, type PortMapping, type Workload } from '../state/workload.ts';

export function dumpWorkloads(state: MeshState): unknown[] {
  return [...state.workloads()].sort(by((workload) => workload.uid)).map(dumpWorkload);
}

export function dumpServices(state: MeshState): unknown[] {
  return [...state.services()].sort(by((service) => service.hostname)).map(dumpService);
}

export function dumpPolicies(state: MeshState): unknown[] {
  return [...state.policies()].sort(by((policy) => policy.key)).map(dumpPolicy);
}

/** Endpoint sets that wait for their service, by service key. */
export function dumpStagedServices(state: MeshState): Record<string, unknown> {
  return Object.fromEntries([...state.stagedEndpoints()].map(([key, set]) => [key, dumpEndpoints(key, set.members())]));
}

function dumpWorkload(workload: Workload): unknown {
  const { applicationTunnel: tunnel } = workload;
  return {
    uid: workload.uid,
    workloadIps: workload.addresses,
    waypoint: dumpGateway(workload.waypoint),
    networkGateway: dumpGateway(workload.networkGateway),
    protocol: workload.tunnelProtocol === 'HBONE' ? 'HBONE' : 'TCP',
    name: workload.name,
    namespace: workload.namespace,
    serviceAccount: workload.serviceAccount,
    workloadName: workload.workloadName,
    workloadType: workload.workloadType,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    clusterId: workload.clusterId,
    trustDomain: workload.trustDomain,
    locality: workload.locality,
    node: workload.node,
    network: workload.network,
    nativeTunnel: workload.nativeTunnel,
    networkMode: workload.hostNetwork ? 'HostNetwork' : 'Standard',
    status: workload.healthy ? 'Healthy' : 'Unhealthy',
    hostname: workload.hostname,
    capacity: workload.capacity,
    applicationTunnel: tunnel && {
      protocol: tunnel.protocol,
      port: tunnel.port === 0 ? undefined : tunnel.port,
    },
    authorizationPolicies: workload.authorizationPolicies,
  };
}

function dumpService(service: Service): unknown {
  const { mode, scopes, healthPolicy } = service.loadBalancing;
  return {
    name: service.name,
    namespace: service.namespace,
    hostname: service.hostname,
    vips: service.vips.map(({ network, ip }) => `${network}/${ip}`),
    cidrVips: service.cidrVips.map(({ network, block }) => `${network}/${formatCidr(block)}`),
    ports: dumpPorts(service.ports),
    loadBalancer:
      mode === 'ALL' && healthPolicy === 'ONLY_HEALTHY'
        ? undefined
        : {
            mode: MODES[mode],
            routingPreferences: scopes.map(capitalised),
            healthPolicy: healthPolicy === 'ALLOW_ALL' ? 'AllowAll' : 'OnlyHealthy',
          },
    waypoint: dumpGateway(service.waypoint),
    endpoints: dumpEndpoints(service.key, service.endpoints.members()),
    subjectAltNames: service.subjectAltNames,
    ipFamilies: IP_FAMILIES[service.ipFamilies],
    canonical: service.canonical,
    visibility: capitalised(service.visibility),
  };
}

const MODES = { ALL: 'Standard', STRICT: 'Strict', FAILOVER: 'Failover', PASSTHROUGH: 'Passthrough' } as const;
const IP_FAMILIES = { ANY: undefined, IPV4: 'IPv4', IPV6: 'IPv6' } as const;

function dumpEndpoints(serviceKey: string, members: Iterable<Workload>): Record<string, unknown> {
  const entries = [...members].sort(by((workload) => workload.uid)).map((workload) => {
    const ports = workload.memberships.find((membership) => membership.serviceKey === serviceKey)?.ports ?? [];
    const status = workload.healthy ? 'Healthy' : 'Unhealthy';
    return [workload.uid, { workloadUid: workload.uid, port: dumpPorts(ports), status }] as const;
  });
  return Object.fromEntries(entries);
}

function dumpPorts(ports: readonly PortMapping[]): Record<string, number> {
  return Object.fromEntries(ports.map(({ servicePort, targetPort }) => [servicePort, targetPort]));
}

/** Rules are three levels of lists: any rule, all clauses, any match. */
function dumpPolicy(policy: Policy): unknown {
  return {
    name: policy.name,
    namespace: policy.namespace,
    scope: SCOPES[policy.scope],
    action: capitalised(policy.action),
    dryRun: policy.dryRun || undefined,
    rules: policy.rules.map((rule) => rule.clauses.map((clause) => clause.matches.map(dumpMatch))),
  };
}

const SCOPES = { GLOBAL: 'Global', NAMESPACE: 'Namespace', WORKLOAD_SELECTOR: 'WorkloadSelector' } as const;

function dumpMatch(match: PolicyMatch): unknown {
  const lists: Record<string, readonly unknown[]> = {
    namespaces: match.namespaces.map(dumpString),
    notNamespaces: match.notNamespaces.map(dumpString),
    principals: match.principals.map(dumpString),
    notPrincipals: match.notPrincipals.map(dumpString),
    serviceAccounts: match.serviceAccounts,
    notServiceAccounts: match.notServiceAccounts,
    sourceIps: match.sourceIps.map(formatCidr),
    notSourceIps: match.notSourceIps.map(formatCidr),
    destinationIps: match.destinationIps.map(formatCidr),
    notDestinationIps: match.notDestinationIps.map(formatCidr),
    destinationPorts: match.destinationPorts,
    notDestinationPorts: match.notDestinationPorts,
  };
  return Object.fromEntries(Object.entries(lists).filter(([, values]) => values.length > 0));
}

/** `{Exact|Prefix|Suffix: text}` or `{Presence: null}` would be lost in Go, hence an object. */
function dumpString(match: StringMatch): unknown {
  return match.kind === 'presence' ? { Presence: {} } : { [capitalised(match.kind)]: match.value };
}

function dumpGateway(gateway: GatewayAddress | undefined): unknown {
  return gateway && { destination: formatGateway(gateway), hboneMtlsPort: gateway.port };
}

function formatCidr(block: CidrBlock): string {
  return `${ipFromBytes(block.bytes)}/${block.prefixLength}`;
}

function capitalised(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1).toLowerCase();
}

function by<T>(key: (value: T) => string): (a: T, b: T) => number {
  return (a, b) => {
    const [left, right] = [key(a), key(b)];
    return left < right ? -1 : left > right ? 1 : 0;
  };
}
