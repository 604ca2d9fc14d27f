/** Pictures of clusters for the checks that ask agents and the control plane, or analyze the objects: check.test.ts runs them. */
import type { ReadPage } from '../../../cli/agents.ts';
import type { CheckLevel } from '../../../cli/check/check.ts';

const CLOCK = '2026-11-21T12:00:00.000Z';
const SOON = '2026-11-21T20:00:00Z';

export interface NodeCase {
  readonly id: string;
  readonly what: string;
  readonly objects: Readonly<Record<string, readonly unknown[]>>;
  readonly level: CheckLevel;
  readonly text: RegExp;
  readonly pages?: ReadPage;
}

function meshPod(name: string, part: string, node: string): unknown {
  return {
    metadata: { name, namespace: 'istio-system', labels: { 'app.kubernetes.io/name': part } },
    spec: { nodeName: node },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] },
  };
}

const CONTROL = meshPod('control-1', 'ambit-control', 'n1');
const AGENTS = [meshPod('agent-1', 'ambit-agent', 'n1'), meshPod('agent-2', 'ambit-agent', 'n2')];

export const GOOD_CHAIN = {
  file: '02-ambit.conflist',
  ownFile: '02-ambit.conflist',
  files: ['02-ambit.conflist', '10-flannel.conflist'],
  plugins: ['bridge', 'portmap', 'ambit-cni'],
  programBytes: 5000,
};
const INSTALLATION = {
  binaryFolder: '/opt/cni/bin',
  configFolder: '/etc/cni/net.d',
  foundBy: 'containerd',
  state: 'installed',
  chain: GOOD_CHAIN,
};

function pod(fields: Record<string, unknown> = {}): unknown {
  return { namespace: 'shop', name: 'web', uid: 'u1', state: 'enrolled', selfTest: 'passed', ...fields };
}

/** What a good agent says, with these fields changed. */
export function reportOf(fields: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    node: 'n1',
    pod: 'agent-1',
    version: '0.1.0',
    clock: CLOCK,
    kernel: '6.1.0',
    nft: 'v1.0.6',
    ipv6: true,
    descriptors: { used: 100, limit: 100_000 },
    conntrack: { used: 1000, limit: 262_144 },
    memoryBytes: 80_000_000,
    pending: [],
    retired: false,
    problems: [],
    installation: INSTALLATION,
    probes: 'recognised',
    pods: [pod()],
    identities: [
      { identity: 'spiffe://cluster.local/ns/shop/sa/web', state: 'available', notAfter: SOON, failures: 0 },
    ],
    xds: { connected: true, since: CLOCK, synced: CLOCK },
    ...fields,
  };
}

const CLIENT = {
  caller: 'istio-system/ambit-agent',
  node: 'n1',
  pod: 'agent-1',
  connectedSince: CLOCK,
  types: [{ type: 'Address', synced: true, behind: 0, behindMs: 0 }],
};

/** Both agents say this; the control plane has these clients. */
function pages(fields: Record<string, unknown> = {}, clients: readonly unknown[] = [CLIENT]): ReadPage {
  return async (_namespace, name, _port, path) => {
    if (name.startsWith('control')) return clients;
    if (!path.startsWith('/node')) throw new Error('not found');
    return reportOf(fields);
  };
}

function onNodes(
  id: string,
  what: string,
  level: CheckLevel,
  text: RegExp,
  fields: Record<string, unknown> = {},
): NodeCase {
  return { id, what, objects: { Pod: [...AGENTS, CONTROL] }, level, text, pages: pages(fields) };
}

function installed(fields: Record<string, unknown>): Record<string, unknown> {
  return { installation: { ...INSTALLATION, ...fields } };
}

const ENROLLED_POD = {
  metadata: { name: 'web', namespace: 'shop', labels: { app: 'web' } },
  spec: { nodeName: 'n1', serviceAccountName: 'web', containers: [{ name: 'web', readinessProbe: {} }] },
  status: {
    phase: 'Running',
    podIP: '10.0.0.1',
    podIPs: [{ ip: '10.0.0.1' }],
    conditions: [{ type: 'Ready', status: 'True' }],
  },
};
const UNREADY_POD = {
  ...ENROLLED_POD,
  status: { ...ENROLLED_POD.status, conditions: [{ type: 'Ready', status: 'False' }] },
};
const SHOP = {
  metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } },
  status: { phase: 'Active' },
};
const ONLY_80 = {
  metadata: { name: 'only-80', namespace: 'shop' },
  spec: {
    podSelector: {},
    policyTypes: ['Ingress'],
    ingress: [{ ports: [{ protocol: 'TCP', port: 80 }] }],
  },
};
const MISSPELT = { metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambientt' } } };
const EMPTY_DENY = {
  metadata: { name: 'nothing', namespace: 'shop' },
  spec: { action: 'DENY', selector: { matchLabels: { app: 'web' } } },
};

export const NODE_CASES: readonly NodeCase[] = [
  onNodes('node.report', 'agents that answer', 'ok', /2 agents answer/),
  {
    id: 'node.report',
    what: 'an agent that does not answer',
    objects: { Pod: AGENTS },
    level: 'failed',
    text: /n1: connection refused/,
    pages: async () => {
      throw new Error('connection refused');
    },
  },
  {
    id: 'node.report',
    what: 'an agent that says something else',
    objects: { Pod: AGENTS },
    level: 'failed',
    text: /gave no report about its node: version must be a string/,
    pages: async () => ({ hello: 'world' }),
  },
  onNodes('node.report', 'an agent in its start', 'failed', /waits for state manager/, { pending: ['state manager'] }),
  onNodes('node.report', 'an agent that tries again', 'warning', /pod shop\/x/, { problems: ['pod shop/x: no netns'] }),
  onNodes('node.kernel', 'nodes with nft', 'ok', /kernel 6.1.0, nft v1.0.6, IPv6/),
  onNodes('node.kernel', 'a node without nft', 'failed', /n1: nft does not run/, { nft: null }),
  onNodes('node.clock', 'clocks that agree', 'ok', /2 nodes within/),
  {
    id: 'node.clock',
    what: 'a clock behind',
    objects: { Pod: [...AGENTS, meshPod('agent-3', 'ambit-agent', 'n3')] },
    level: 'failed',
    text: /n3: 5 min behind the other nodes/,
    pages: async (_namespace, name) => reportOf(name === 'agent-3' ? { clock: '2026-11-21T11:55:00Z' } : {}),
  },
  onNodes('cni.plugin', 'an installed plugin', 'ok', /2 nodes: \/etc\/cni\/net.d and \/opt\/cni\/bin/),
  onNodes(
    'cni.plugin',
    'a missing plugin',
    'failed',
    /ambit-cni is missing/,
    installed({ state: 'incomplete', problem: 'ambit-cni is missing' }),
  ),
  onNodes('cni.chain.order', 'a chain with Ambit last', 'ok', /02-ambit.conflist: bridge > portmap > ambit-cni/),
  onNodes(
    'cni.chain.order',
    'a file before',
    'failed',
    /reads 01-other.conflist before 02-ambit.conflist/,
    installed({ chain: { ...GOOD_CHAIN, file: '01-other.conflist', plugins: ['bridge'] } }),
  ),
  onNodes(
    'cni.chain.order',
    'a plugin behind',
    'failed',
    /number 1 of 2/,
    installed({ chain: { ...GOOD_CHAIN, plugins: ['ambit-cni', 'bridge'] } }),
  ),
  onNodes(
    'cni.chain.order',
    'no file of Ambit',
    'failed',
    /no configuration of Ambit/,
    installed({ chain: { files: [] } }),
  ),
  onNodes('conntrack.headroom', 'an empty table', 'ok', /0.4 % in use \(n1: 1000 of 262144\)/),
  onNodes('conntrack.headroom', 'a filling table', 'warning', /n1: 71 % of 262144/, {
    conntrack: { used: 186_123, limit: 262_144 },
  }),
  onNodes('conntrack.headroom', 'a full table', 'failed', /95 %/, { conntrack: { used: 95, limit: 100 } }),
  onNodes('descriptors.headroom', 'few descriptors', 'ok', /0.1 % in use/),
  onNodes('descriptors.headroom', 'many descriptors', 'failed', /99 % of 100 descriptors/, {
    descriptors: { used: 99, limit: 100 },
  }),
  onNodes(
    'identity.renewals',
    'good certificates',
    'ok',
    /2 identities, the first certificate ends in 8.0 h, 0 failures/,
  ),
  onNodes(
    'identity.renewals',
    'a renewal that failed',
    'warning',
    /3 renewals of spiffe:.* failed, 8.0 h left: no CA/,
    {
      identities: [
        {
          identity: 'spiffe://td/ns/a/sa/b',
          state: 'available',
          notAfter: SOON,
          failures: 3,
          lastFailure: { at: CLOCK, reason: 'no CA' },
        },
      ],
    },
  ),
  onNodes('identity.renewals', 'an identity without one', 'failed', /no certificate for spiffe:.*: not allowed/, {
    identities: [{ identity: 'spiffe://td/ns/a/sa/b', state: 'unavailable', reason: 'not allowed', failures: 1 }],
  }),
  onNodes('xds.connected', 'connected agents', 'ok', /2 of 2 agents/),
  onNodes('xds.connected', 'an agent alone', 'failed', /n1: no stream/, { xds: { connected: false } }),
  onNodes('control.sync', 'agents in sync', 'ok', /1 of 1 agents in sync/),
  {
    id: 'control.sync',
    what: 'an agent that lags',
    objects: { Pod: [CONTROL] },
    level: 'failed',
    text: /n1: 7 resources behind for 60.0 s/,
    pages: pages({}, [{ ...CLIENT, types: [{ type: 'Address', synced: false, behind: 7, behindMs: 60_000 }] }]),
  },
  {
    id: 'control.sync',
    what: 'an agent that refused something',
    objects: { Pod: [CONTROL] },
    level: 'warning',
    text: /n1: refused Address: bad port/,
    pages: pages({}, [
      {
        ...CLIENT,
        types: [{ type: 'Address', synced: true, behind: 0, behindMs: 0, lastNack: { at: CLOCK, reason: 'bad port' } }],
      },
    ]),
  },
  onNodes('capture.live', 'pods that redirect', 'ok', /2 of 2 captured pods redirect \(probed\)/),
  onNodes('capture.live', 'a pod that does not', 'failed', /shop\/web on n1 is not redirected: a connection/, {
    pods: [pod({ selfTest: 'a connection to 192.0.2.127 was not redirected' })],
  }),
  onNodes('capture.live', 'a pod that was not taken up', 'failed', /is cut off: netns is gone/, {
    pods: [pod({ state: 'broken', problem: 'netns is gone' })],
  }),
  onNodes('capture.live', 'a pod that was not reached', 'warning', /2 of 2 pods were not tried/, {
    pods: [pod({ selfTest: 'not tried' })],
  }),
  {
    id: 'capture.probes',
    what: 'pods that are ready',
    objects: { Pod: [...AGENTS, ENROLLED_POD] },
    level: 'ok',
    text: /1 captured pods with probes, all ready/,
    pages: pages(),
  },
  onNodes('capture.probes', 'a node without rules', 'failed', /n1: nft ended with 1/, { probes: 'nft ended with 1' }),
  {
    id: 'capture.probes',
    what: 'a pod that is not ready',
    objects: { Pod: [...AGENTS, UNREADY_POD] },
    level: 'warning',
    text: /not ready: shop\/web/,
    pages: pages(),
  },
  {
    id: 'netpol.port15008',
    what: 'no NetworkPolicy',
    objects: { Namespace: [SHOP], Pod: [ENROLLED_POD] },
    level: 'ok',
    text: /no NetworkPolicy/,
  },
  {
    id: 'netpol.port15008',
    what: 'one that lets in port 80 only',
    objects: { Namespace: [SHOP], Pod: [ENROLLED_POD], NetworkPolicy: [ONLY_80] },
    level: 'failed',
    text: /NetworkPolicy shop\/only-80 spec.ingress blocks TCP 15008 to 1 enrolled workload/,
  },
  { id: 'labels.mode', what: 'a good label', objects: { Namespace: [SHOP] }, level: 'ok', text: /does what it says/ },
  { id: 'labels.mode', what: 'a misspelt one', objects: { Namespace: [MISSPELT] }, level: 'failed', text: /ambientt/ },
  { id: 'policies.effect', what: 'no policy', objects: { Namespace: [SHOP] }, level: 'ok', text: /as written/ },
  {
    id: 'policies.effect',
    what: 'a policy without effect',
    objects: { Namespace: [SHOP], Pod: [ENROLLED_POD], AuthorizationPolicy: [EMPTY_DENY] },
    level: 'warning',
    text: /AuthorizationPolicy shop\/nothing/,
  },
];
