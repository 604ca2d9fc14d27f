/** A small mesh for tests of what an agent says about it: two nodes, enrolled and other workloads, a service, policies. */
import type { AdminSource, MetricsSnapshot } from '../../agent/admin/source.ts';
import type { RouteSettings } from '../../agent/route/outbound.ts';
import { parseLocalConfig } from '../../agent/state/local-config.ts';
import { MeshState } from '../../agent/state/mesh-state.ts';

const CONFIGURATION = `
workloads:
- {uid: c//Pod/shop/frontend-1, name: frontend-1, namespace: shop, workloadName: frontend, canonicalName: frontend,
   serviceAccount: frontend, trustDomain: cluster.local, workloadIps: [10.1.0.1], protocol: HBONE, node: a, services: {}}
- {uid: c//Pod/shop/stock-1, name: stock-1, namespace: shop, workloadName: stock, canonicalName: stock,
   serviceAccount: stock, trustDomain: cluster.local, workloadIps: [10.2.0.1], protocol: HBONE, node: b,
   services: {shop/stock.shop.svc.cluster.local: {80: 8080}}, authorizationPolicies: [shop/stock-readers]}
- {uid: c//Pod/shop/cart-1, name: cart-1, namespace: shop, workloadName: cart, serviceAccount: cart,
   trustDomain: cluster.local, workloadIps: [10.1.0.3], protocol: HBONE, node: a, services: {}}
- {uid: c//Pod/shop/late-1, name: late-1, namespace: shop, workloadName: late, serviceAccount: late,
   trustDomain: cluster.local, workloadIps: [10.1.0.4], protocol: HBONE, node: a, services: {},
   authorizationPolicies: [shop/missing]}
- {uid: c//Pod/legacy/cron-1, name: cron-1, namespace: legacy, workloadName: cron, serviceAccount: default,
   trustDomain: cluster.local, workloadIps: [10.1.0.2], protocol: TCP, node: a, services: {}}
services:
- {name: stock, namespace: shop, hostname: stock.shop.svc.cluster.local, vips: [/10.9.0.1], ports: {80: 8080}}
- {name: empty, namespace: shop, hostname: empty.shop.svc.cluster.local, vips: [/10.9.0.2], ports: {80: 8080}}
policies:
- {name: stock-readers, namespace: shop, scope: WorkloadSelector, action: Allow,
   rules: [[[{principals: [{Exact: cluster.local/ns/shop/sa/frontend}]}]]]}
- {name: no-debug, namespace: shop, scope: Namespace, action: Deny, rules: [[[{destinationPorts: [9999]}]]]}
`;

export function testMesh(): MeshState {
  const state = new MeshState();
  for (const update of parseLocalConfig(CONFIGURATION)) state.apply(update);
  return state;
}

/** Node `a` is the agent's own. */
export function testRouteSettings(settings: Partial<RouteSettings> = {}): RouteSettings {
  const local = ['c//Pod/shop/frontend-1', 'c//Pod/shop/cart-1', 'c//Pod/shop/late-1'];
  return {
    outboundPolicy: 'ALLOW_ANY',
    forceEncryption: false,
    isLocalPod: (uid) => local.includes(uid),
    ...settings,
  };
}

export function testSnapshot(fields: Partial<MetricsSnapshot> = {}): MetricsSnapshot {
  return { workers: [], podsUp: 2, podsPending: 1, podsStarted: 4, podsStopped: 1, workersRestarted: 0, ...fields };
}

/** An agent that has nothing to do; tests name what they are about. */
export function testAdminSource(fields: Partial<AdminSource> = {}): AdminSource {
  return {
    state: testMesh(),
    routeSettings: testRouteSettings(),
    configuration: { trustDomain: 'cluster.local', nodeName: 'a' },
    certificates: () => [],
    pods: () => [],
    collectMetrics: async () => testSnapshot(),
    connections: async () => [],
    nodeStatus: async () => ({
      hostNetns: undefined,
      report: { node: 'a', pod: 'agent-a', pending: [], retired: false, problems: [], pods: [], identities: [] },
    }),
    readiness: () => [],
    logLevel: () => 'info',
    setLogLevel: () => {},
    ...fields,
  };
}
