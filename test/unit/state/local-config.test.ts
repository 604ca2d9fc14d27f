import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseLocalConfig, readLocalConfig } from '../../../agent/state/local-config.ts';
import { MeshState } from '../../../agent/state/mesh-state.ts';
import { AmbitError } from '../../../core/errors.ts';
import { getIp } from '../../../core/ip.ts';
import {
  gatewayAt,
  getService,
  getWorkload,
  meshOf,
  policy,
  service,
  type TestResource,
  workload,
} from '../../support/mesh-resources.ts';

function meshFrom(yaml: string): MeshState {
  const state = new MeshState();
  for (const update of parseLocalConfig(yaml)) assert.deepEqual(state.apply(update).errors, []);
  return state;
}

/** What is wrong with the document, line by line. */
function problems(yaml: string): string[] {
  try {
    parseLocalConfig(yaml, 'file');
  } catch (thrown) {
    assert.ok(thrown instanceof AmbitError && thrown.code === 'CONFIGURATION', String(thrown));
    return thrown.message.split('\n').map((line) => line.replace(/^file: /, ''));
  }
  return [];
}

const EVERYTHING = `
workloads:
- uid: cluster//Pod/default/a
  name: a
  namespace: default
  workloadIps: [10.0.0.1, "2001:db8::1"]
  services: {default/web.example: {80: 9090, 81: 0}}
  trustDomain: td
  serviceAccount: account
  network: net
  protocol: HBONE
  networkMode: HostNetwork
  waypoint: {destination: net/10.0.0.9, hboneMtlsPort: 15009}
  networkGateway: {destination: gateways/gateway.example}
  workloadName: a-deployment
  workloadType: cronjob
  canonicalName: canonical
  canonicalRevision: v3
  hostname: a.example
  node: node-7
  nativeTunnel: true
  applicationTunnel: {protocol: PROXY, port: 15088}
  authorizationPolicies: [default/p, other/q]
  status: Unhealthy
  clusterId: cluster-2
  locality: {region: r, zone: z, subzone: s}
  capacity: 7
services:
- name: web
  namespace: default
  hostname: web.example
  vips: [net/10.1.0.1, "/2001:db8:1::1"]
  cidrVips: [{network: net, cidr: 10.2.0.0/16}]
  ports: {80: 8080, 81: 0}
  subjectAltNames: ["spiffe://td/ns/default/sa/web"]
  waypoint: {destination: gateways/waypoint.example, hboneMtlsPort: 15008}
  weightedWaypoints: [{destination: {destination: net/10.0.0.9}, weight: 3}]
  loadBalancer: {routingPreferences: [Network, Region, Zone, Subzone, Node, Cluster], mode: Failover, healthPolicy: AllowAll}
  ipFamilies: IPv6
  canonical: true
  visibility: Namespace
policies:
- name: p
  namespace: default
  scope: WorkloadSelector
  action: Deny
  dryRun: true
  rules:
  - - - namespaces: [{Exact: a}, {Prefix: b}, {Suffix: c}, Presence]
        notNamespaces: [{Exact: d}]
        principals: [Presence]
        notPrincipals: [{Exact: td/ns/a/sa/b}]
        serviceAccounts: [{namespace: a, serviceAccount: b}]
        notServiceAccounts: [{namespace: c, serviceAccount: d}]
        sourceIps: [10.0.0.0/8, 10.0.0.1]
        notSourceIps: ["2001:db8::/32"]
        destinationIps: [127.0.0.1]
        notDestinationIps: [127.0.0.2]
        destinationPorts: [80]
        notDestinationPorts: [9999]
`;

const block = (address: number[], length: number) => ({ address: Uint8Array.from(address), length });

const THE_SAME: TestResource[] = [
  workload('a', {
    uid: 'cluster//Pod/default/a',
    ips: ['10.0.0.1', '2001:db8::1'],
    services: { 'default/web.example': { 80: 9090, 81: 0 } },
    trustDomain: 'td',
    serviceAccount: 'account',
    network: 'net',
    tunnelProtocol: 1,
    networkMode: 1,
    waypoint: gatewayAt('net/10.0.0.9', 15009),
    networkGateway: gatewayAt('gateways/gateway.example'),
    workloadName: 'a-deployment',
    workloadType: 1,
    canonicalName: 'canonical',
    canonicalRevision: 'v3',
    hostname: 'a.example',
    node: 'node-7',
    nativeTunnel: true,
    applicationTunnel: { protocol: 1, port: 15088 },
    authorizationPolicies: ['default/p', 'other/q'],
    status: 1,
    clusterId: 'cluster-2',
    locality: { region: 'r', zone: 'z', subzone: 's' },
    capacity: 7,
  }),
  service('web', {
    hostname: 'web.example',
    vips: ['net/10.1.0.1', '/2001:db8:1::1', 'net/10.2.0.0/16'],
    ports: { 80: 8080, 81: 0 },
    subjectAltNames: ['spiffe://td/ns/default/sa/web'],
    waypoint: gatewayAt('gateways/waypoint.example'),
    weightedWaypoints: [{ destination: gatewayAt('net/10.0.0.9'), weight: 3 }],
    loadBalancing: { routingPreference: [6, 1, 2, 3, 4, 5], mode: 2, healthPolicy: 1 },
    ipFamilies: 2,
    canonical: true,
    visibility: 1,
  }),
  policy('p', {
    scope: 2,
    action: 1,
    dryRun: true,
    groups: [
      {
        rules: [
          {
            matches: [
              {
                namespaces: [
                  { matchType: { case: 'exact', value: 'a' } },
                  { matchType: { case: 'prefix', value: 'b' } },
                  { matchType: { case: 'suffix', value: 'c' } },
                  { matchType: { case: 'presence', value: {} } },
                ],
                notNamespaces: [{ matchType: { case: 'exact', value: 'd' } }],
                principals: [{ matchType: { case: 'presence', value: {} } }],
                notPrincipals: [{ matchType: { case: 'exact', value: 'td/ns/a/sa/b' } }],
                serviceAccounts: [{ namespace: 'a', serviceAccount: 'b' }],
                notServiceAccounts: [{ namespace: 'c', serviceAccount: 'd' }],
                sourceIps: [block([10, 0, 0, 0], 8), block([10, 0, 0, 1], 32)],
                notSourceIps: [block([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 32)],
                destinationIps: [block([127, 0, 0, 1], 32)],
                notDestinationIps: [block([127, 0, 0, 2], 32)],
                destinationPorts: [80],
                notDestinationPorts: [9999],
              },
            ],
          },
        ],
      },
    ],
  }),
];

describe('a local configuration', () => {
  test('with every field gives what the same resources over xDS give', () => {
    const local = meshFrom(EVERYTHING);
    const remote = meshOf(...THE_SAME);
    assert.deepEqual([...local.workloads()], [...remote.workloads()]);
    assert.deepEqual([...local.policies()], [...remote.policies()]);
    const [localService, remoteService] = [local, remote].map((state) => getService(state, 'default/web.example'));
    assert.deepEqual({ ...localService, endpoints: 0 }, { ...remoteService, endpoints: 0 });
    assert.equal(localService?.endpoints.size, 1);
  });

  test('with the fewest fields gets the defaults of xDS', () => {
    const state = meshFrom('workloads: [{workloadIps: [10.0.0.1], namespace: ns, services: {}}]');
    const found = getWorkload(state, 'local/ns//10.0.0.1');
    assert.deepEqual(
      [found.identity, found.tunnelProtocol, found.capacity, found.healthy],
      ['spiffe://cluster.local/ns/ns/sa/default', 'NONE', 1, true],
    );
  });

  test('for one host: two workloads, services on two networks, a policy', () => {
    const state = meshFrom(`
workloads:
- {uid: cluster1//v1/Pod/default/local, name: local, namespace: default, serviceAccount: default, workloadIps: [127.0.0.1], protocol: HBONE, services: {default/example.com: {80: 8080}, default/example2.com: {80: 8080}}}
- {uid: cluster1//v1/Pod/default/other, name: other, namespace: default, workloadIps: [127.0.0.2], protocol: TCP, services: {default/example.com: {80: 8080}}}
services:
- {name: local, namespace: default, hostname: example.com, vips: [/127.10.0.1], ports: {80: 8080}, subjectAltNames: ["spiffe://cluster.local/ns/default/sa/local"]}
- {name: remote, namespace: default, hostname: example2.com, vips: [remote/127.10.0.2], ports: {80: 8080}}
policies:
- {name: deny-9999, namespace: default, scope: Namespace, action: Allow, rules: [[[{notDestinationPorts: [9999]}]]]}
`);
    const found = state.findServiceByVip('', getIp('127.10.0.1'));
    assert.deepEqual(found?.subjectAltNames, ['spiffe://cluster.local/ns/default/sa/local']);
    assert.equal(found?.endpoints.size, 2);
    assert.equal(state.findServiceByVip('remote', getIp('127.10.0.2'))?.name, 'remote');
    assert.equal(state.sizes.policies, 1);
  });

  test('that is empty is a mesh without anything', () => {
    for (const yaml of ['', '{}', 'workloads: []\nservices:\npolicies:'])
      assert.deepEqual(meshFrom(yaml).sizes, { workloads: 0, services: 0, policies: 0 });
  });

  test('is read from a file, and its absence is an error that names it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ambit-local-config-'));
    try {
      const path = join(folder, 'mesh.yaml');
      writeFileSync(path, 'workloads: [{workloadIps: [10.0.0.1], namespace: ns, services: {}}]');
      assert.equal((await readLocalConfig(path))[0]?.updated.length, 1);
      await assert.rejects(readLocalConfig(join(folder, 'missing')), /cannot read .*missing/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('a mistake', () => {
  const workloadWith = (field: string) =>
    `workloads: [{workloadIps: [10.0.0.1], namespace: ns, services: {}, ${field}}]`;
  const serviceWith = (field: string) =>
    `services: [{name: a, namespace: ns, hostname: a.example, vips: [], ports: {80: 80}, ${field}}]`;
  const matchWith = (field: string) =>
    `policies: [{name: p, namespace: ns, scope: Global, action: Deny, rules: [[[{${field}}]]]}]`;
  const rows: [string, string, RegExp][] = [
    ['at the top', 'workload: []', /^workload: unknown field \(known: workloads, services, policies\)/],
    ['in a field of a workload', workloadWith('servicAccount: x'), /^workloads\[0\]\.servicAccount: unknown field/],
    ['in a field of a service', serviceWith('waypiont: x'), /^services\[0\]\.waypiont: unknown field/],
    [
      'in a field of a policy',
      'policies: [{name: p, namespace: n, scope: Global, action: Deny, rules: [], mode: x}]',
      /^policies\[0\]\.mode: unknown field/,
    ],
    ['in a field of a match', matchWith('principal: [Presence]'), /rules\[0\]\[0\]\[0\]\.principal: unknown field/],
    [
      'in a field of a gateway',
      workloadWith('waypoint: {destination: /10.0.0.1, port: 1}'),
      /waypoint\.port: unknown field/,
    ],
    ['in the spelling of a field', workloadWith('trust_domain: x'), /trust_domain: unknown field/],
    ['of leaving out what is required', 'workloads: [{namespace: ns, services: {}}]', /workloadIps: expected a value/],
    [
      'in an address',
      'workloads: [{workloadIps: [10.0.0.300], namespace: ns, services: {}}]',
      /workloadIps\[0\]: expected an IP address, found "10.0.0.300"/,
    ],
    ['in a protocol', workloadWith('protocol: HTTP'), /protocol: expected one of HBONE, TCP/],
    ['in a protocol that every object has', workloadWith('protocol: constructor'), /protocol: expected one of/],
    ['in a port', serviceWith('ports: {http: 80}'), /./],
    ['in a target port', workloadWith('services: {a/b: {80: 70000}}'), /./],
    [
      'in a service key',
      'workloads: [{workloadIps: [], namespace: ns, services: {web: {}}}]',
      /<namespace>\/<hostname>/,
    ],
    ['in a gateway', workloadWith('waypoint: {destination: nowhere}'), /destination: expected <network>\/<ip> or/],
    [
      'in a virtual address',
      'services: [{name: a, namespace: n, hostname: h, vips: [10.0.0.1], ports: {}}]',
      /vips\[0\]: expected <network>\/<ip>/,
    ],
    ['in a block', serviceWith('cidrVips: [{network: "", cidr: 10.0.0.0/33}]'), /cidr: expected a block/],
    [
      'in a scope of locality',
      serviceWith('loadBalancer: {routingPreferences: [Planet]}'),
      /routingPreferences\[0\]: expected one of Region/,
    ],
    [
      'in an action',
      'policies: [{name: p, namespace: n, scope: Global, action: Maybe, rules: []}]',
      /action: expected one of Allow, Deny/,
    ],
    [
      'in a string match',
      matchWith('principals: [{Exact: a, Prefix: b}]'),
      /principals\[0\]: expected Presence or one of/,
    ],
    ['in the kind of a string match', matchWith('principals: [{Regex: a}]'), /Regex: unknown field/],
    ['in a port of a match', matchWith('destinationPorts: [http]'), /destinationPorts\[0\]: expected a whole number/],
    ['in a block of a match', matchWith('sourceIps: [somewhere]'), /sourceIps\[0\]: expected an address or a block/],
    [
      'in the shape of rules',
      'policies: [{name: p, namespace: n, scope: Global, action: Deny, rules: [{}]}]',
      /rules\[0\]: expected a list/,
    ],
    ['in a type', workloadWith('nativeTunnel: "true"'), /nativeTunnel: expected true or false/],
    [
      'of having two of one name',
      'services: [{name: a, namespace: n, hostname: h, vips: [], ports: {}}, {name: b, namespace: n, hostname: h, vips: [], ports: {}}]',
      /^n\/h: there are two/,
    ],
    ['that only the decoder of xDS sees', workloadWith('serviceAccount: a/b'), /form no SPIFFE identity/],
    ['in the YAML', 'workloads: [', /./],
    ['of writing a key twice', 'workloads: []\nworkloads: []', /unique/],
  ];
  for (const [name, yaml, expected] of rows)
    test(`${name} is found`, () => assert.match(problems(yaml).join('\n'), expected));

  test('does not hide the next one', () => {
    const found = problems(`
workloads:
- {workloadIps: [nonsense], namespace: ns, services: {}, typo: 1}
services:
- {namespace: ns}
`);
    assert.equal(found.length, 2 + 4, found.join('\n'));
  });

  test('like a document that expands without end is refused', () => {
    const layers = Array.from(
      { length: 12 },
      (_, i) => `l${i + 1}: &l${i + 1} [${Array.from({ length: 10 }, () => `*l${i}`).join(', ')}]`,
    );
    assert.notDeepEqual(problems(['l0: &l0 [x]', ...layers].join('\n')), []);
  });

  test('of any kind is an error and nothing else: any values in any fields', () => {
    const key = fc.constantFrom(
      'workloads',
      'services',
      'policies',
      'workloadIps',
      'namespace',
      'services',
      'vips',
      'ports',
      'hostname',
      'name',
      'rules',
      'scope',
      'action',
      'waypoint',
      'destination',
      '80',
      'a/b',
      '__proto__',
      'locality',
    );
    const { tree } = fc.letrec((tie) => ({
      leaf: fc.constantFrom(
        null,
        true,
        0,
        -1,
        1.5,
        80,
        70_000,
        '',
        'a',
        'a/b',
        '10.0.0.1',
        '/10.0.0.1',
        'Global',
        'Deny',
        'Presence',
      ),
      list: fc.array(tie('tree'), { maxLength: 3 }),
      mapping: fc.dictionary(key, tie('tree'), { maxKeys: 5 }),
      tree: fc.oneof({ maxDepth: 6 }, tie('leaf'), tie('list'), tie('mapping')),
    }));
    fc.assert(
      fc.property(fc.dictionary(key, tree, { maxKeys: 3 }), (document) => {
        problems(JSON.stringify(document));
      }),
      { numRuns: 2000 },
    );
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 100 }), (text) => void problems(text)),
      { numRuns: 2000 },
    );
  });
});
