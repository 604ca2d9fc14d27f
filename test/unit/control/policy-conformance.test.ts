/**
 * What Istio's integration tests demand of policies at L4, as verdicts: TestPeerAuthentication, TestAuthorizationL4,
 * TestAuthorizationGateway, TestAuthorizationWaypointDefaultDeny, and the transitions of its ambient index tests. Changes
 * are applied one after the other to one mesh, so that what is left over from before would show.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PolicyMesh } from '../../support/policy-mesh.ts';

const CAPTURED = 'shop/front';
const UNCAPTURED = undefined;
const [PORT, OTHER] = [18080, 9090];

function openMesh(): PolicyMesh {
  const mesh = new PolicyMesh();
  mesh.put(`
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: a, serviceAccountName: web, containers: []}
status: {podIP: 10.0.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop, labels: {app: other}}
spec: {nodeName: a, serviceAccountName: other, containers: []}
status: {podIP: 10.0.0.3}
`);
  return mesh;
}

function peer(name: string, spec: string, namespace = 'shop', created = '2026-01-01T00:00:00Z'): string {
  return `apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: ${name}, namespace: ${namespace}, creationTimestamp: "${created}"}\nspec: ${spec}\n`;
}

function authorization(name: string, spec: string, namespace = 'shop', more = ''): string {
  return `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ${name}, namespace: ${namespace}${more}}\nspec: ${spec}\n`;
}

/** `captured/uncaptured`: `+` passes, `-` is refused. */
function verdicts(mesh: PolicyMesh, port = PORT, to = 'shop/web'): string {
  return [CAPTURED, UNCAPTURED].map((from) => (mesh.allows({ from, to, port }) ? '+' : '-')).join('');
}

const WEB = 'selector: {matchLabels: {app: web}}';

test('TestPeerAuthentication: permissive, strict, and exceptions by port', () => {
  const mesh = openMesh();
  assert.equal(verdicts(mesh), '++', 'nothing is said');
  mesh.put(peer('all', '{mtls: {mode: PERMISSIVE}}'));
  assert.equal(verdicts(mesh), '++');
  mesh.put(peer('all', '{mtls: {mode: STRICT}}'));
  assert.equal(verdicts(mesh), '+-');
  mesh.put(peer('web', `{${WEB}, mtls: {mode: STRICT}, portLevelMtls: {"${PORT}": {mode: PERMISSIVE}}}`));
  assert.deepEqual([verdicts(mesh), verdicts(mesh, OTHER), verdicts(mesh, PORT, 'shop/other')], ['++', '+-', '+-']);
  mesh.remove('PeerAuthentication/shop/all');
  mesh.put(peer('mesh', '{mtls: {mode: STRICT}}', 'istio-system'));
  mesh.put(peer('web', `{${WEB}, portLevelMtls: {"${PORT}": {mode: PERMISSIVE}}}`));
  assert.deepEqual([verdicts(mesh), verdicts(mesh, OTHER)], ['++', '+-']);
  mesh.put(peer('mesh', '{mtls: {mode: PERMISSIVE}}', 'istio-system'));
  mesh.put(peer('web', `{${WEB}, portLevelMtls: {"${PORT}": {mode: STRICT}}}`));
  assert.deepEqual([verdicts(mesh), verdicts(mesh, OTHER)], ['+-', '++']);
  mesh.remove('PeerAuthentication/shop/web', 'PeerAuthentication/istio-system/mesh');
  assert.deepEqual([verdicts(mesh), verdicts(mesh, OTHER)], ['++', '++']);
});

test('gap (a): a strict parent, an UNSET workload and a port that is DISABLE: the exception holds', () => {
  const mesh = openMesh();
  mesh.put(peer('all', '{mtls: {mode: STRICT}}'));
  mesh.put(peer('web', `{${WEB}, portLevelMtls: {"${PORT}": {mode: DISABLE}}}`));
  assert.deepEqual([verdicts(mesh), verdicts(mesh, OTHER)], ['++', '+-']);
});

test('gap (b): root STRICT, namespace UNSET, workload UNSET and a permissive port: strict everywhere else', () => {
  const mesh = openMesh();
  mesh.put(peer('mesh', '{mtls: {mode: STRICT}}', 'istio-system'));
  mesh.put(peer('all', '{}'));
  mesh.put(peer('web', `{${WEB}, portLevelMtls: {"${PORT}": {mode: PERMISSIVE}}}`));
  assert.deepEqual([verdicts(mesh), verdicts(mesh, OTHER), verdicts(mesh, OTHER, 'shop/other')], ['++', '+-', '+-']);
});

test('the namespace changes under a workload that inherits (PeerAuthenticationNamespacePolicyChange)', () => {
  const mesh = openMesh();
  mesh.put(peer('web', `{${WEB}, portLevelMtls: {"${PORT}": {mode: PERMISSIVE}}}`));
  for (const [mode, expected] of [
    ['STRICT', ['++', '+-']],
    ['PERMISSIVE', ['++', '++']],
    ['STRICT', ['++', '+-']],
    ['DISABLE', ['++', '++']],
  ] as const) {
    mesh.put(peer('all', `{mtls: {mode: ${mode}}}`));
    assert.deepEqual([verdicts(mesh), verdicts(mesh, OTHER)], expected, mode);
  }
});

test('of two objects of a level the oldest counts; the younger one says so and takes over when it goes', () => {
  const mesh = openMesh();
  mesh.put(peer('young', '{mtls: {mode: STRICT}}', 'shop', '2026-02-01T00:00:00Z'));
  mesh.put(peer('old', '{mtls: {mode: PERMISSIVE}}', 'shop', '2026-01-01T00:00:00Z'));
  assert.equal(verdicts(mesh), '++');
  assert.deepEqual(mesh.conditions('PeerAuthentication/shop/young'), ['ZtunnelAccepted False Invalid']);
  assert.deepEqual(mesh.conditions('PeerAuthentication/shop/old'), ['ZtunnelAccepted True Accepted']);
  mesh.remove('PeerAuthentication/shop/old');
  assert.equal(verdicts(mesh), '+-');
});

test('a selector in the root namespace selects nothing of a PeerAuthentication, and is told', () => {
  const mesh = openMesh();
  mesh.put(peer('root', `{${WEB}, mtls: {mode: STRICT}}`, 'istio-system'));
  assert.equal(verdicts(mesh), '++');
  assert.deepEqual(mesh.conditions('PeerAuthentication/istio-system/root'), ['ZtunnelAccepted False Invalid']);
});

test('TestAuthorizationL4: the right principals pass, others and uncaptured clients do not, other pods are untouched', () => {
  const mesh = openMesh();
  const allow = (principal: string): string =>
    authorization('p', `{${WEB}, rules: [{from: [{source: {principals: ["${principal}"]}}]}]}`);
  mesh.put(allow('cluster.local/ns/shop/sa/front'));
  assert.deepEqual([verdicts(mesh), verdicts(mesh, PORT, 'shop/other')], ['+-', '++']);
  mesh.put(allow('cluster.local/ns/somewhere/sa/else'));
  assert.equal(verdicts(mesh), '--');
  mesh.remove('AuthorizationPolicy/shop/p');
  assert.equal(verdicts(mesh), '++');
});

test('TestAuthorizationGateway: ports of a policy are ports of the workload', () => {
  const mesh = openMesh();
  mesh.put(authorization('p', `{${WEB}, action: DENY, rules: [{to: [{operation: {ports: ["${PORT}"]}}]}]}`));
  assert.deepEqual([verdicts(mesh), verdicts(mesh, OTHER)], ['--', '++']);
});

test('TestAuthorizationWaypointDefaultDeny: an empty ALLOW of the root denies the mesh, an ALLOW opens one way', () => {
  const mesh = openMesh();
  mesh.put(authorization('default-deny', '{}', 'istio-system'));
  assert.deepEqual([verdicts(mesh), verdicts(mesh, PORT, 'shop/other')], ['--', '--']);
  mesh.put(authorization('from-waypoint', `{${WEB}, rules: [{from: [{source: {serviceAccounts: [shop/waypoint]}}]}]}`));
  assert.equal(mesh.allows({ from: 'shop/waypoint', to: 'shop/web', port: PORT }), true);
  assert.deepEqual([verdicts(mesh), verdicts(mesh, PORT, 'shop/other')], ['--', '--']);
});

test('TestAuthorizationL7 without a waypoint: an L7 ALLOW denies, an L7 DENY still denies, and both are told', () => {
  const mesh = openMesh();
  mesh.put(authorization('p', `{${WEB}, rules: [{to: [{operation: {methods: [GET]}}]}]}`));
  assert.equal(verdicts(mesh), '--');
  assert.deepEqual(mesh.conditions('AuthorizationPolicy/shop/p'), ['ZtunnelAccepted False UnsupportedValue']);
  const from = 'from: [{source: {principals: [cluster.local/ns/shop/sa/front]}}]';
  mesh.put(authorization('p', `{${WEB}, action: DENY, rules: [{${from}, to: [{operation: {paths: [/admin]}}]}]}`));
  assert.equal(verdicts(mesh), '-+');
  assert.deepEqual(mesh.conditions('AuthorizationPolicy/shop/p'), ['ZtunnelAccepted True PartiallyInvalid']);
});

test('policies with targetRefs, on trial, or with an action that agents do not have, decide nothing and are told', () => {
  const mesh = openMesh();
  const cases: [spec: string, more: string, condition: string][] = [
    ['{targetRefs: [{kind: Service, name: gone}]}', '', 'WaypointAccepted False TargetNotFound'],
    ['{action: DENY, rules: [{}]}', ', annotations: {istio.io/dry-run: "true"}', 'ZtunnelAccepted True Accepted'],
    ['{action: AUDIT, rules: [{}]}', '', 'ZtunnelAccepted False UnsupportedValue'],
    ['{action: CUSTOM, provider: {name: x}, rules: [{}]}', '', 'ZtunnelAccepted False UnsupportedValue'],
  ];
  for (const [spec, more, condition] of cases) {
    mesh.put(authorization('p', spec, 'shop', more));
    assert.equal(verdicts(mesh), '++', spec);
    assert.deepEqual(mesh.conditions('AuthorizationPolicy/shop/p'), [condition]);
  }
});

test('a policy with a target says which waypoint enforces it, or that none stands before the target', () => {
  const mesh = openMesh();
  mesh.put(authorization('p', '{targetRefs: [{kind: Service, name: web}]}'));
  const service = (labels: string): string =>
    `apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, labels: {${labels}}}\nspec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80}]}\n`;
  mesh.put(service(''));
  assert.deepEqual(mesh.conditions('AuthorizationPolicy/shop/p'), ['WaypointAccepted False AncestorNotBound']);
  mesh.put(`apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: IPAddress, value: 10.96.0.9}]}
`);
  mesh.put(service('istio.io/use-waypoint: wp'));
  assert.deepEqual(mesh.conditions('AuthorizationPolicy/shop/p'), ['WaypointAccepted True Accepted']);
});

test('a selector in the root namespace selects in every namespace', () => {
  const mesh = openMesh();
  mesh.put(authorization('p', `{${WEB}, action: DENY, rules: [{}]}`, 'istio-system'));
  assert.deepEqual([verdicts(mesh), verdicts(mesh, PORT, 'shop/other')], ['--', '++']);
});

test('a pod that comes after the policy is under it (PolicyAfterPod the other way round), and labels move it', () => {
  const mesh = openMesh();
  mesh.put(authorization('p', '{selector: {matchLabels: {app: late}}, action: DENY, rules: [{}]}'));
  const late = (label: string): string =>
    `apiVersion: v1\nkind: Pod\nmetadata: {name: late, namespace: shop, labels: {app: ${label}}}\nspec: {nodeName: a, containers: []}\nstatus: {podIP: 10.0.0.4}\n`;
  mesh.put(late('late'));
  assert.equal(verdicts(mesh, PORT, 'shop/late'), '--');
  mesh.put(late('elsewhere'));
  assert.equal(verdicts(mesh, PORT, 'shop/late'), '++');
});
