/** Every code of the table: an object that earns it, and one like it that does not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { analyze } from '../../../control/validation/analyze.ts';
import { FINDING_TABLE, type FindingCode } from '../../../control/validation/codes.ts';
import { collect } from '../../../control/validation/collect.ts';
import type { Finding } from '../../../control/validation/finding.ts';

/** shop is in the mesh, legacy is not. web serves port 80 on 8080, and is called by front. */
const WORLD = `
{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: legacy}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: front, namespace: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: legacy}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: a, serviceAccountName: web, containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: cron-1, namespace: legacy, labels: {app: cron}}
spec: {nodeName: a, containers: []}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: guarded, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {clusterIP: 10.96.0.2, selector: {app: web}, ports: [{port: 81, targetPort: 8081}]}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: istio-waypoint}, spec: {controllerName: istio.io/mesh-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{type: IPAddress, value: 10.96.0.9}]}
`;

function findingsIn(yaml: string): Finding[] {
  const values = parseAllDocuments(yaml).map((document) => {
    assert.deepEqual(document.errors, [], yaml);
    return document.toJS() as unknown;
  });
  const { view, findings } = collect(values, true);
  return [...findings, ...analyze(view)];
}

function codesIn(objects: string): FindingCode[] {
  return findingsIn(`${WORLD}---\n${objects}`).map(({ code }) => code);
}

const authorization = (spec: string, more = ''): string =>
  `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop${more}}\nspec: ${spec}\n`;
const peer = (spec: string, namespace = 'shop', name = 'p', created = '2026-01-02T00:00:00Z'): string =>
  `apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: ${name}, namespace: ${namespace}, creationTimestamp: "${created}"}\nspec: ${spec}\n`;
const namespace = (labels: string): string =>
  `{apiVersion: v1, kind: Namespace, metadata: {name: team, labels: {${labels}}}}\n`;
const pod = (labels: string, spec = ''): string =>
  `{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: shop, labels: {${labels}}}, spec: {nodeName: a, containers: []${spec}}}\n`;
const service = (labels: string, selector: string): string =>
  `{apiVersion: v1, kind: Service, metadata: {name: x, namespace: shop, labels: {${labels}}}, spec: {selector: {${selector}}, ports: [{port: 80}]}}\n`;
const netpol = (spec: string): string =>
  `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n, namespace: shop}, spec: {podSelector: {matchLabels: {app: web}}, ${spec}}}\n`;
const gateway = (labels: string, status = 'addresses: [{type: IPAddress, value: 10.96.0.8}]', where = 'shop'): string =>
  `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: wp2, namespace: ${where}, labels: {${labels}}}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}, status: {${status}}}\n---\n`;
const entry = (spec: string, labels = ''): string =>
  `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: shop, labels: {${labels}}}, spec: {hosts: [a.example.com], ports: [{number: 80, name: http}], ${spec}}}\n`;
const WEB = 'selector: {matchLabels: {app: web}}';

const CASES: Readonly<Record<FindingCode, readonly [bad: string, good: string]>> = {
  AMB0101: [authorization('{rule: []}'), authorization('{rules: []}')],
  AMB0102: [authorization('{selector: {matchLabels: {app: wob}}}'), authorization(`{${WEB}}`)],
  AMB0103: [
    authorization('{rules: [{from: [{source: {serviceAccounts: [frond]}}]}]}'),
    authorization('{rules: [{from: [{source: {serviceAccounts: [front, shop/web]}}]}]}'),
  ],
  AMB0104: [
    authorization('{rules: [{from: [{source: {principals: [other.example/ns/shop/sa/front]}}]}]}'),
    authorization(
      '{rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/front, "*/ns/shop/sa/front"]}}]}]}',
    ),
  ],
  AMB0105: [
    authorization('{action: DENY, rules: [{to: [{operation: {ports: ["8080"], notPorts: ["8080"]}}]}]}'),
    authorization('{action: DENY, rules: [{to: [{operation: {ports: ["8080"], notPorts: ["8081"]}}]}]}'),
  ],
  AMB0106: [
    `${authorization('{rules: [{from: [{source: {namespaces: [shop]}}]}]}')}---\n${authorization('{action: DENY, rules: [{from: [{source: {namespaces: ["sh*"]}}]}]}').replace('name: p', 'name: q')}`,
    `${authorization('{rules: [{from: [{source: {namespaces: [shop]}}]}]}')}---\n${authorization('{action: DENY, rules: [{from: [{source: {namespaces: [shop]}}], to: [{operation: {ports: ["8080"]}}]}]}').replace('name: p', 'name: q')}`,
  ],
  AMB0107: [
    authorization(`{${WEB}, rules: [{to: [{operation: {methods: [GET]}}]}]}`),
    authorization('{targetRefs: [{kind: Service, name: guarded}], rules: [{to: [{operation: {methods: [GET]}}]}]}'),
  ],
  AMB0108: [
    authorization(`{${WEB}, action: DENY, rules: [{to: [{operation: {ports: ["8080"], paths: [/a]}}]}]}`),
    authorization(`{${WEB}, action: DENY, rules: [{to: [{operation: {ports: ["8080"]}}]}]}`),
  ],
  AMB0109: [authorization('{action: AUDIT, rules: [{}]}'), authorization('{action: DENY, rules: [{}]}')],
  AMB0110: [
    authorization('{targetRefs: [{kind: Service, name: gone}]}'),
    authorization('{targetRefs: [{kind: Service, name: guarded}]}'),
  ],
  AMB0111: [
    authorization('{targetRefs: [{kind: Service, name: web}]}'),
    authorization('{targetRefs: [{kind: Service, name: guarded}]}'),
  ],
  AMB0112: [
    authorization('{rules: [{from: [{source: {namespaces: [shop]}}]}, {from: [{source: {namespaces: ["*"]}}]}]}'),
    authorization(
      '{rules: [{from: [{source: {namespaces: [shop]}}]}, {from: [{source: {namespaces: [istio-system]}}]}]}',
    ),
  ],
  AMB0113: [
    authorization('{selector: {matchLabels: {app: cron}}}').replace('shop', 'legacy'),
    authorization(`{${WEB}}`),
  ],
  AMB0114: [authorization('{}', ', annotations: {istio.io/dry-run: "true"}'), authorization('{}')],
  AMB0115: [
    authorization(`{${WEB}, rules: [{to: [{operation: {ports: ["80"]}}]}]}`),
    authorization(`{${WEB}, rules: [{to: [{operation: {ports: ["8080"]}}]}]}`),
  ],
  AMB0116: [authorization('{action: DENY}'), authorization('{action: ALLOW}')],
  AMB0117: [
    authorization('{rules: [{from: [{source: {namespaces: [legacy]}}]}]}'),
    authorization('{rules: [{from: [{source: {namespaces: [shop]}}]}]}'),
  ],
  AMB0201: [namespace('istio.io/dataplane-mode: ambiant'), namespace('istio.io/dataplane-mode: none')],
  AMB0202: [service('istio.io/dataplane-mode: ambient', 'app: web'), pod('app: web, istio.io/dataplane-mode: ambient')],
  AMB0203: [
    netpol('ingress: [{ports: [{port: 8080}]}]'),
    netpol('ingress: [{ports: [{port: 8080}, {port: 15000, endPort: 15010}]}]'),
  ],
  AMB0204: [
    namespace('istio.io/dataplane-mode: ambient, istio-injection: enabled'),
    namespace('istio.io/dataplane-mode: ambient, istio-injection: disabled'),
  ],
  AMB0205: [pod('istio.io/dataplane-mode: ambient', ', hostNetwork: true'), pod('app: web', ', hostNetwork: true')],
  AMB0206: [
    netpol('policyTypes: [Egress], egress: [{ports: [{port: 5432}]}]'),
    netpol('policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}, {to: [{podSelector: {}}]}]'),
  ],
  AMB0207: [netpol('ingress: [{ports: [{port: 8080}, {port: 15008}]}]'), netpol('ingress: [{}]')],
  AMB0301: [peer(`{${WEB}, mtls: {mode: STRICT}}`, 'istio-system'), peer('{mtls: {mode: PERMISSIVE}}', 'istio-system')],
  AMB0302: [
    peer('{portLevelMtls: {"8080": {mode: STRICT}}}'),
    peer(`{${WEB}, portLevelMtls: {"8080": {mode: STRICT}}}`),
  ],
  AMB0303: [
    `${peer('{mtls: {mode: STRICT}}')}---\n${peer('{}', 'shop', 'older', '2026-01-01T00:00:00Z')}`,
    `${peer('{mtls: {mode: STRICT}}')}---\n${peer(`{${WEB}}`, 'shop', 'older', '2026-01-01T00:00:00Z')}`,
  ],
  AMB0304: [peer('{mtls: {mode: STRICT}}'), peer('{mtls: {mode: PERMISSIVE}}')],
  AMB0305: [peer('{mtls: {mode: DISABLE}}'), peer('{mtls: {mode: PERMISSIVE}}')],
  AMB0306: [
    peer(`{${WEB}, portLevelMtls: {"80": {mode: STRICT}}}`),
    peer(`{${WEB}, portLevelMtls: {"8080": {mode: STRICT}, "9090": {mode: STRICT}}}`),
  ],
  AMB0401: [service('', 'app: wob'), service('', 'app: web')],
  AMB0402: [service('istio.io/use-waypoint: gone', 'app: web'), service('istio.io/use-waypoint: none', 'app: web')],
  AMB0403: [
    gateway('', '') + service('istio.io/use-waypoint: wp2', 'app: web'),
    gateway('') + service('istio.io/use-waypoint: wp2', 'app: web'),
  ],
  AMB0404: [
    gateway('', undefined, 'legacy') +
      service('istio.io/use-waypoint: wp2, istio.io/use-waypoint-namespace: legacy', 'app: web'),
    gateway('') + service('istio.io/use-waypoint: wp2, istio.io/use-waypoint-namespace: shop', 'app: web'),
  ],
  AMB0405: [
    gateway('istio.io/waypoint-for: workload') + service('istio.io/use-waypoint: wp2', 'app: web'),
    gateway('istio.io/waypoint-for: all') + service('istio.io/use-waypoint: wp2', 'app: web'),
  ],
  AMB0406: [entry('resolution: DNS', 'networking.istio.io/enable-autoallocate-ip: "false"'), entry('resolution: DNS')],
  AMB0407: [entry('resolution: STATIC'), entry('resolution: STATIC, endpoints: [{address: 10.1.1.1}]')],
  AMB0408: [
    `${entry('resolution: STATIC, workloadSelector: {labels: {app: vm}}')}---\n{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w, namespace: shop}, spec: {address: 10.1.1.1, labels: {app: mv}}}\n`,
    `${entry('resolution: STATIC, workloadSelector: {labels: {app: vm}}')}---\n{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w, namespace: shop}, spec: {address: 10.1.1.1, labels: {app: vm}}}\n`,
  ],
  AMB0409: [
    authorization('{}', ', labels: {istio.io/use-waypoint: wp}'),
    service('istio.io/use-waypoint: wp', 'app: web'),
  ],
  AMB0411: [gateway('istio.io/waypoint-for: services'), gateway('istio.io/waypoint-for: service')],
  AMB0410: [
    service('istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: gone', 'app: web'),
    service('istio.io/use-waypoint: wp', 'app: web'),
  ],
};

for (const [code, [bad, good]] of Object.entries(CASES)) {
  const { title, severity } = FINDING_TABLE[code as FindingCode];
  test(`${code} (${severity}): ${title}`, () => {
    const found = codesIn(bad);
    assert.ok(found.includes(code as FindingCode), `not found in ${JSON.stringify(found)}`);
    assert.ok(!codesIn(good).includes(code as FindingCode), 'also found where nothing is wrong');
  });
}

test('the label of the mesh on a Deployment, or on an excluded namespace, is said to do nothing', () => {
  const deployment = (own: string, template: string): string =>
    `{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: shop, labels: {${own}}}, spec: {template: {metadata: {labels: {app: web, ${template}}}, spec: {containers: []}}}}\n`;
  const label = 'istio.io/dataplane-mode: ambient';
  assert.ok(codesIn(deployment(label, '')).includes('AMB0202'));
  assert.ok(!codesIn(deployment(label, label)).includes('AMB0202'));
  assert.ok(!codesIn(deployment('', label)).includes('AMB0202'));
  const namespaceOf = (name: string): string =>
    `{apiVersion: v1, kind: Namespace, metadata: {name: ${name}, labels: {${label}}}}\n`;
  assert.ok(codesIn(namespaceOf('kube-system')).includes('AMB0202'));
  assert.ok(!codesIn(namespaceOf('team')).includes('AMB0202'));
});

test('an L7 condition is named by its key', () => {
  const [found] = findingsIn(
    `${WORLD}---\n${authorization(`{${WEB}, rules: [{when: [{key: "request.headers[x]", values: [y]}]}]}`)}`,
  );
  assert.equal(found?.field, 'rules[0].when[0].key');
  assert.equal(found?.message, '(request.headers[x]) needs an L7 proxy, but shop/web has no waypoint');
});

test('L7 rules for pods of other proxies are none of ours; for pods to come outside the mesh they are a warning', () => {
  const l7 = (namespace: string, selector: string): string =>
    authorization(`{${selector}rules: [{to: [{operation: {methods: [GET]}}]}]}`).replace('shop', namespace);
  const severities = (objects: string): string[] =>
    findingsIn(`${WORLD}---\n${objects}`).flatMap(({ code, severity }) => (code === 'AMB0107' ? [severity] : []));
  assert.deepEqual(severities(l7('legacy', 'selector: {matchLabels: {app: cron}}, ')), []);
  assert.deepEqual(severities(l7('legacy', '')), [], 'every pod of the namespace is outside');
  assert.deepEqual(severities(l7('legacy', 'selector: {matchLabels: {app: later}}, ')), ['warning']);
  assert.deepEqual(severities(l7('shop', 'selector: {matchLabels: {app: later}}, ')), ['error']);
  assert.deepEqual(severities(l7('istio-system', '')), ['error'], 'the whole mesh');
});

test('the world of the cases has no finding of its own', () => {
  assert.deepEqual(
    findingsIn(WORLD).map(({ code, object }) => `${code} ${object}`),
    [],
  );
});

test('every finding has an object, a message and a fix that ends a sentence', () => {
  for (const [bad] of Object.values(CASES)) {
    for (const found of findingsIn(`${WORLD}---\n${bad}`)) {
      assert.match(found.object, /^[A-Z][A-Za-z]+\/[^/]*\/[^/]+$/);
      assert.ok(!found.message.endsWith('.') && found.message.length > 5, found.message);
      assert.ok(!found.effect.endsWith('.'), found.effect);
      assert.match(found.fix, /\.$|get pods --show-labels/, found.fix);
    }
  }
});
