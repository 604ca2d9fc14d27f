/** Decoders of the kinds of services, gateways and mesh settings; values that are kept once; equality by content. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { sameContent } from '../../../control/objects/equality.ts';
import { internedMap } from '../../../control/objects/intern.ts';
import { type LabelSelector, matchesLabels } from '../../../control/objects/label-selector.ts';
import { KIND_TABLE, objectKey, parseObjectKey } from '../../../control/objects/object.ts';
import { formatPath, parseYamlObjects } from '../../../control/sources/yaml-objects.ts';
import { objectOf } from '../../support/control.ts';

const head = (apiVersion: string, kind: string, name = 'a'): string =>
  `apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata: { name: ${name} }\n`;

function problemsOf(yaml: string): string[] {
  return parseYamlObjects(yaml).problems.map(({ reason }) => reason);
}

test('every kind of the table is read from a file under each of its versions', () => {
  const bodies: Readonly<Record<string, string>> = {
    Pod: 'spec: {}',
    Service: 'spec: {}',
    EndpointSlice: 'addressType: IPv4',
    Gateway: 'spec: { gatewayClassName: c }',
    GatewayClass: 'spec: { controllerName: c }',
    ServiceEntry: 'spec: { hosts: [a.example] }',
    WorkloadEntry: 'spec: { address: 192.0.2.1 }',
  };
  for (const { kind, wireKind, wireName, apiVersions } of KIND_TABLE) {
    for (const version of apiVersions) {
      const object = objectOf(kind, `${head(version, wireKind ?? kind, wireName)}${bodies[kind] ?? ''}\n`);
      assert.equal(object.kind, kind);
      const { kind: again, name } = parseObjectKey(objectKey(object));
      assert.deepEqual([again, name], [kind, wireName ?? 'a']);
    }
  }
});

test('an EndpointSlice: conditions that are absent, ports without number, names, and the pod behind an endpoint', () => {
  const slice = objectOf(
    'EndpointSlice',
    `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: s-1, namespace: n, labels: { kubernetes.io/service-name: s } }
addressType: IPv4
ports: [{ name: http, port: 8080 }, { name: any }]
endpoints:
  - { addresses: [192.0.2.1], targetRef: { kind: Pod, name: p }, nodeName: node, zone: z }
  - { addresses: [192.0.2.2], conditions: { ready: false, serving: true, terminating: true } }
  - { addresses: [192.0.2.3], conditions: { ready: false } }
`,
  );
  assert.equal(slice.service, 's');
  assert.deepEqual(
    slice.ports.map(({ name, port }) => [name, port]),
    [
      ['http', 8080],
      ['any', undefined],
    ],
  );
  assert.deepEqual(
    slice.endpoints.map(({ ready, serving, terminating, target }) => [ready, serving, terminating, target?.name]),
    [
      [true, true, false, 'p'],
      [false, true, true, undefined],
      [false, false, false, undefined],
    ],
  );
  const names = objectOf(
    'EndpointSlice',
    `${head('discovery.k8s.io/v1', 'EndpointSlice')}addressType: FQDN\nendpoints: [{ addresses: [a.example] }]\n`,
  );
  assert.deepEqual([names.endpoints[0]?.addresses, names.endpoints[0]?.names], [[], ['a.example']]);
  assert.deepEqual(
    problemsOf(`${head('discovery.k8s.io/v1', 'EndpointSlice')}addressType: IPv4\nendpoints: [{ addresses: [a] }]\n`),
    ['endpoints[0].addresses[0] must be an IP address'],
  );
});

test('a Gateway: addresses by its status, and who may use its listeners', () => {
  const gateway = objectOf(
    'Gateway',
    `${head('gateway.networking.k8s.io/v1', 'Gateway')}spec:
  gatewayClassName: istio-waypoint
  listeners:
    - { name: mesh, port: 15008, protocol: HBONE }
    - { name: all, port: 1, protocol: HTTP, allowedRoutes: { namespaces: { from: All } } }
    - name: some
      port: 2
      protocol: HTTP
      allowedRoutes: { namespaces: { from: Selector, selector: { matchLabels: { a: b } } } }
status: { addresses: [{ type: Hostname, value: a.n.svc.cluster.local }] }
`,
  );
  assert.deepEqual(
    gateway.listeners.map(({ allowed }) => allowed.from),
    ['Same', 'All', 'Selector'],
  );
  assert.deepEqual(gateway.addresses, [{ type: 'Hostname', value: 'a.n.svc.cluster.local' }]);
  const bad = `${head('gateway.networking.k8s.io/v1', 'Gateway')}spec:
  gatewayClassName: c
  listeners: [{ name: a, port: 1, protocol: HTTP, allowedRoutes: { namespaces: { from: Selector } } }]
`;
  assert.deepEqual(problemsOf(bad), ['spec.listeners[0].allowedRoutes.namespaces needs a selector']);
});

describe('MeshConfig', () => {
  const configMap = (mesh: string, name = 'istio'): string =>
    `apiVersion: v1\nkind: ConfigMap\nmetadata: { name: ${name}, namespace: istio-system }\ndata:\n  mesh: |\n${mesh
      .split('\n')
      .map((line) => `    ${line}`)
      .join('\n')}\n`;

  test('is read from the ConfigMap of its name, and only from that', () => {
    const config = objectOf(
      'MeshConfig',
      configMap(`trustDomain: example.org
accessLogFile: /dev/stdout
outboundTrafficPolicy: { mode: REGISTRY_ONLY }
serviceEntryVisibility:
  defaultVisibility: NAMESPACE
  policies: [{ visibility: PUBLIC, matchingRules: [{ namespaceSelector: { matchLabels: { a: b } } }] }]
serviceScopeConfigs: [{ scope: GLOBAL, servicesSelector: { matchExpressions: [{ key: g, operator: Exists }] } }]`),
    );
    assert.equal(config.trustDomain, 'example.org');
    assert.equal(config.outboundTrafficPolicy, 'REGISTRY_ONLY');
    assert.equal(config.serviceEntryVisibility?.defaultVisibility, 'NAMESPACE');
    assert.equal(config.serviceScopes[0]?.scope, 'GLOBAL');
    assert.equal(objectKey(config), 'MeshConfig/istio-system/istio');
    assert.deepEqual(problemsOf(configMap('trustDomain: x', 'other')), ['v1 ConfigMap is not a kind the mesh reads']);
  });

  test('that is not YAML, or not what it should be, is refused with the place', () => {
    assert.match(problemsOf(configMap('a: [b'))[0] ?? '', /^data\.mesh is not YAML/);
    assert.deepEqual(problemsOf(configMap('serviceEntryVisibility: { defaultVisibility: SECRET }')), [
      'data.mesh.serviceEntryVisibility.defaultVisibility must be one of PUBLIC, NAMESPACE, NONE, not "SECRET"',
    ]);
    assert.deepEqual(problemsOf(configMap('')), []);
  });
});

test('label selectors match as in Kubernetes', () => {
  const labels = new Map([
    ['a', '1'],
    ['b', ''],
  ]);
  const expression = (key: string, operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist', ...values: string[]) => ({
    matchLabels: new Map<string, string>(),
    matchExpressions: [{ key, operator, values }],
  });
  const table: [LabelSelector, boolean][] = [
    [{ matchLabels: new Map(), matchExpressions: [] }, true],
    [{ matchLabels: new Map([['a', '1']]), matchExpressions: [] }, true],
    [{ matchLabels: new Map([['a', '2']]), matchExpressions: [] }, false],
    [expression('a', 'In', '1', '2'), true],
    [expression('c', 'In', '1'), false],
    [expression('a', 'NotIn', '1'), false],
    [expression('c', 'NotIn', '1'), true],
    [expression('b', 'Exists'), true],
    [expression('c', 'Exists'), false],
    [expression('c', 'DoesNotExist'), true],
    [expression('b', 'DoesNotExist'), false],
  ];
  for (const [selector, expected] of table) {
    assert.equal(matchesLabels(selector, labels), expected, JSON.stringify(selector.matchExpressions));
  }
});

describe('metadata', () => {
  const withMetadata = (metadata: string): string => `apiVersion: v1\nkind: Namespace\nmetadata: ${metadata}\n`;

  test('keeps annotations of the mesh only, whatever others hold', () => {
    const { meta } = objectOf(
      'Namespace',
      withMetadata(
        '{ name: a, annotations: { istio.io/a: "1", networking.istio.io/b: "2", ambit.io/c: "3", notistio.io/d: "4", e: { f: 5 } } }',
      ),
    );
    assert.deepEqual([...meta.annotations.keys()].sort(), ['ambit.io/c', 'istio.io/a', 'networking.istio.io/b']);
  });

  test('of objects that say the same is kept once', () => {
    const one = objectOf('Namespace', withMetadata('{ name: a, labels: { x: "1", y: "2" } }'));
    const two = objectOf('Namespace', withMetadata('{ name: b, labels: { y: "2", x: "1" } }'));
    assert.equal(one.meta.labels, two.meta.labels);
    assert.equal(one.meta.annotations, two.meta.annotations);
    assert.notEqual(internedMap([['x', '1']]), one.meta.labels);
  });
});

test('objects are equal by content: resource versions count for nothing, everything else does', () => {
  const pod = (version: string, more = ''): object =>
    objectOf(
      'Pod',
      `apiVersion: v1\nkind: Pod\nmetadata: { name: a, resourceVersion: "${version}", labels: { a: b } }\nspec: { nodeName: n${more} }\n`,
    );
  assert.ok(sameContent(pod('1'), pod('2')));
  assert.ok(!sameContent(pod('1'), pod('1', 'ode')));
  const table: [unknown, unknown, boolean][] = [
    [new Map([['a', 1]]), new Map([['a', 1]]), true],
    [new Map([['a', 1]]), new Map([['b', 1]]), false],
    [[1, 2], [1, 2], true],
    [[1], [1, 2], false],
    [new Uint8Array([1]), new Uint8Array([1]), true],
    [new Uint8Array([1]), new Uint8Array([2]), false],
    [{ a: undefined }, {}, false],
    [{ a: 1 }, new Map([['a', 1]]), false],
    [null, {}, false],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, true],
  ];
  for (const [a, b, expected] of table) assert.equal(sameContent(a, b), expected);
});

test('paths are written as people write them', () => {
  assert.equal(formatPath(['spec', 'rules', 0, 'from']), 'spec.rules[0].from');
  assert.equal(formatPath([]), 'the object');
});
