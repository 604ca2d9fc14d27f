/**
 * Policies from the object to the verdict of an agent, against an evaluator of the objects themselves that is written
 * from the documented meaning and knows the whole request. Agents see less (L4), so they may refuse more: never wider.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeObject, identify, type MeshObject } from '../../../control/objects/object.ts';
import { standInFor } from '../../../control/objects/policy-stand-in.ts';
import { getIp, ipToBytes, parseCidr } from '../../../core/ip.ts';
import { SETTINGS } from '../../support/control.ts';
import { PolicyMesh } from '../../support/policy-mesh.ts';

const ROOT = SETTINGS.rootNamespace;
const SERVER = { namespace: 'shop', labels: { app: 'web', tier: 'front' }, ip: '10.0.0.2' };

/** A connection and the HTTP request in it; `http` is undefined for plain TCP. */
interface Request {
  readonly source: { readonly trustDomain: string; readonly namespace: string; readonly account: string } | undefined;
  readonly sourceIp: string;
  readonly port: number;
  readonly http: { readonly method: string; readonly path: string; readonly host: string } | undefined;
}

type Fields = Readonly<Record<string, unknown>>;
interface Rule {
  readonly from?: readonly { readonly source: Fields }[] | undefined;
  readonly to?: readonly { readonly operation: Fields }[] | undefined;
  readonly when?:
    | readonly {
        readonly key: string;
        readonly values?: string[] | undefined;
        readonly notValues?: string[] | undefined;
      }[]
    | undefined;
}
interface Policy {
  readonly name: string;
  readonly namespace: string;
  readonly action: string;
  readonly selector: Readonly<Record<string, string>> | undefined;
  readonly dryRun: boolean;
  readonly targeted: boolean;
  readonly rules: readonly Rule[];
}
interface Peer {
  readonly name: string;
  readonly namespace: string;
  readonly age: number;
  readonly selector: Readonly<Record<string, string>> | undefined;
  readonly mode: string | undefined;
  readonly ports: Readonly<Record<string, string>> | undefined;
}

// ---- the documented meaning -------------------------------------------------------------------------------------

/** True, false, or undefined: the value cannot be read, or the request has no such attribute. */
type Truth = boolean | undefined;

function textMatches(pattern: string, value: string): Truth {
  if (pattern === '*') return value !== '';
  if (pattern.endsWith('*')) return value.startsWith(pattern.slice(0, -1));
  if (pattern.startsWith('*')) return value.endsWith(pattern.slice(1));
  return pattern === value;
}

function blockContains(block: string, ip: string): Truth {
  const parsed = parseCidr(block);
  if (parsed === undefined) return undefined;
  const bits = (bytes: Uint8Array) => [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  const address = ipToBytes(getIp(ip));
  const length = parsed.prefixLength;
  return (
    address.length === parsed.bytes.length && bits(address).slice(0, length) === bits(parsed.bytes).slice(0, length)
  );
}

/** Whether one value of an attribute holds for the request. */
function holds(attribute: string, value: string, policy: Policy, request: Request): Truth {
  const { source, http } = request;
  switch (attribute) {
    case 'namespaces':
    case 'source.namespace':
      return textMatches(value, source?.namespace ?? '');
    case 'principals':
    case 'source.principal':
      return (
        source !== undefined && textMatches(value, `${source.trustDomain}/ns/${source.namespace}/sa/${source.account}`)
      );
    case 'serviceAccounts': {
      const [namespace = '', account = ''] = value.includes('/') ? value.split('/') : [policy.namespace, value];
      return source?.namespace === namespace && source.account === account;
    }
    case 'ipBlocks':
    case 'source.ip':
      return blockContains(value, request.sourceIp);
    case 'destination.ip':
      return blockContains(value, SERVER.ip);
    case 'ports':
    case 'destination.port':
      return /^[1-9][0-9]*$/.test(value) && Number(value) < 65_536 ? Number(value) === request.port : undefined;
    case 'methods':
      return http === undefined ? undefined : textMatches(value, http.method);
    case 'paths':
      return http === undefined ? undefined : textMatches(value, http.path);
    case 'hosts':
      return http === undefined ? undefined : textMatches(value, http.host);
    case 'request.headers[x]':
      return http === undefined ? undefined : false;
    default:
      return undefined;
  }
}

/** `doubt`: what an attribute that cannot be judged counts as; for ALLOW it must not help, for DENY not save. */
function attributeHolds(
  attribute: string,
  values: readonly string[],
  negated: boolean,
  policy: Policy,
  request: Request,
  doubt: boolean,
): boolean {
  const truths = values.map((value) => holds(attribute, value, policy, request));
  if (truths.includes(undefined)) return doubt;
  return truths.includes(true) !== negated;
}

function fieldsHold(fields: Fields, policy: Policy, request: Request, doubt: boolean): boolean {
  return Object.entries(fields).every(([name, values]) => {
    const negated = name.startsWith('not');
    const plain = negated ? name.charAt(3).toLowerCase() + name.slice(4) : name;
    return attributeHolds(plain, values as string[], negated, policy, request, doubt);
  });
}

function ruleHolds(rule: Rule, policy: Policy, request: Request, doubt: boolean): boolean {
  const { from, to, when } = rule;
  return (
    (from === undefined || from.some(({ source }) => fieldsHold(source, policy, request, doubt))) &&
    (to === undefined || to.some(({ operation }) => fieldsHold(operation, policy, request, doubt))) &&
    (when ?? []).every(
      ({ key, values, notValues }) =>
        (values === undefined || attributeHolds(key, values, false, policy, request, doubt)) &&
        (notValues === undefined || attributeHolds(key, notValues, true, policy, request, doubt)),
    )
  );
}

function isFor(selector: Readonly<Record<string, string>> | undefined): boolean {
  return Object.entries(selector ?? {}).every(([key, value]) =>
    Object.entries(SERVER.labels).some(([k, v]) => k === key && v === value),
  );
}

/** Whether the documentation lets the request through. */
function isAllowed(policies: readonly Policy[], peers: readonly Peer[], request: Request): boolean {
  if (request.source === undefined && modeOf(peers, request.port) === 'STRICT') return false;
  const inForce = policies.filter(
    ({ namespace, selector, dryRun, targeted }) =>
      !dryRun && !targeted && (namespace === ROOT || namespace === SERVER.namespace) && isFor(selector),
  );
  const denies = inForce.filter(({ action }) => action === 'DENY');
  if (denies.some((policy) => policy.rules.some((rule) => ruleHolds(rule, policy, request, true)))) return false;
  const allows = inForce.filter(({ action }) => action === 'ALLOW');
  return (
    allows.length === 0 || allows.some((policy) => policy.rules.some((rule) => ruleHolds(rule, policy, request, false)))
  );
}

/** The nearest level that says something; the oldest object of a level. */
function modeOf(peers: readonly Peer[], port: number): string {
  const oldest = (level: readonly Peer[]) => [...level].sort((a, b) => a.age - b.age || (a.name < b.name ? -1 : 1))[0];
  const whole = (peer: Peer) => Object.keys(peer.selector ?? {}).length === 0;
  const mesh = oldest(peers.filter((peer) => whole(peer) && peer.namespace === ROOT));
  const namespace = oldest(peers.filter((peer) => whole(peer) && peer.namespace === SERVER.namespace));
  const workload = oldest(
    peers.filter((peer) => !whole(peer) && peer.namespace === SERVER.namespace && isFor(peer.selector)),
  );
  const said = [workload?.ports?.[String(port)], workload?.mode, namespace?.mode, mesh?.mode];
  return said.find((mode) => mode !== undefined && mode !== 'UNSET') ?? 'PERMISSIVE';
}

// ---- the mesh ---------------------------------------------------------------------------------------------------

function policyObject(policy: Policy): unknown {
  const { name, namespace, action, selector, dryRun, targeted, rules } = policy;
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace, annotations: dryRun ? { 'istio.io/dry-run': 'true' } : {} },
    spec: {
      action,
      rules,
      ...(targeted
        ? { targetRefs: [{ kind: 'Service', name: 'web' }] }
        : selector === undefined
          ? {}
          : { selector: { matchLabels: selector } }),
    },
  };
}

function peerObject({ name, namespace, age, selector, mode, ports }: Peer): unknown {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name, namespace, creationTimestamp: new Date(age * 1000).toISOString() },
    spec: {
      ...(selector === undefined ? {} : { selector: { matchLabels: selector } }),
      ...(mode === undefined ? {} : { mtls: { mode } }),
      ...(ports === undefined
        ? {}
        : { portLevelMtls: Object.fromEntries(Object.entries(ports).map(([port, of]) => [port, { mode: of }])) }),
    },
  };
}

/** The object, or what stands in for it; as a source and `withStandIns` would report it. */
function take(value: unknown): { object: MeshObject | undefined; valid: boolean } {
  const identity = identify(value);
  assert.equal(identity.kind, 'known');
  if (identity.kind !== 'known') throw new Error('not an object');
  const decoded = decodeObject(identity.row, value);
  if (decoded.ok) return { object: decoded.value, valid: true };
  return { object: standInFor(identity.row.kind, value, 'cannot be read'), valid: false };
}

const POD = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web', namespace: SERVER.namespace, labels: SERVER.labels },
  spec: { nodeName: 'node-a', serviceAccountName: 'web', containers: [] },
  status: {
    phase: 'Running',
    podIP: SERVER.ip,
    podIPs: [{ ip: SERVER.ip }],
    conditions: [{ type: 'Ready', status: 'True' }],
  },
};

/** An agent that got what the builder made of the objects; `valid` when all of them could be read. */
function agentOf(values: readonly unknown[]): { mesh: PolicyMesh; valid: boolean } {
  const taken = [POD, ...values].map(take);
  const mesh = new PolicyMesh();
  mesh.apply({ upserted: taken.flatMap(({ object }) => (object === undefined ? [] : [object])), removed: [] });
  return { mesh, valid: taken.every(({ valid }) => valid) };
}

function agentAllows(mesh: PolicyMesh, { source, sourceIp, port }: Request): boolean {
  const to = `${SERVER.namespace}/web`;
  if (source === undefined) return mesh.allows({ from: undefined, sourceIp, to, port });
  const { trustDomain, namespace, account } = source;
  return mesh.allows({ from: `${namespace}/${account}`, trustDomain, sourceIp, to, port });
}

// ---- random cases: small sets of values, so that they meet ---------------------------------------------------------

const few = (...values: string[]) => fc.uniqueArray(fc.constantFrom(...values), { minLength: 1, maxLength: 2 });
const SOURCE_FIELDS = {
  namespaces: few('shop', 'web', 's*', '*b', '*'),
  notNamespaces: few('shop', 'we*'),
  principals: few('cluster.local/ns/shop/sa/front', 'cluster.local/*', '*/sa/front', '*', 'other/ns/shop/sa/front'),
  notPrincipals: few('*', 'cluster.local/ns/web/sa/front'),
  ipBlocks: few('10.0.0.0/24', '10.0.1.7', '2001:db8::/32'),
  notIpBlocks: few('10.0.0.0/25', '10.0.1.0/24'),
};
const ACCOUNT_FIELDS = { serviceAccounts: few('front', 'shop/front', 'web/front'), notServiceAccounts: few('front') };
const OPERATION_FIELDS = { ports: few('80', '8080'), notPorts: few('80') };
const L7_FIELDS = { methods: few('GET', 'P*'), notMethods: few('GET'), paths: few('/a', '/a*'), hosts: few('web') };
const BAD_SOURCE = { ipBlocks: few('10.0.0.300', 'x') };
const BAD_OPERATION = { ports: few('70000', 'http'), notPorts: few('-1') };

function record(fields: Record<string, fc.Arbitrary<string[]>>): fc.Arbitrary<Fields> {
  return fc.record(fields, { requiredKeys: [] }).filter((value) => Object.keys(value).length > 0);
}
function weighted<T>(...choices: (readonly [number, fc.Arbitrary<T>])[]): fc.Arbitrary<T> {
  return fc.oneof(...choices.map(([weight, arbitrary]) => ({ weight, arbitrary })));
}

const source = weighted([12, record(SOURCE_FIELDS)], [4, record(ACCOUNT_FIELDS)], [1, record(BAD_SOURCE)]).map(
  (fields) => ({ source: fields }),
);
const operation = weighted(
  [8, record(OPERATION_FIELDS)],
  [3, record(L7_FIELDS)],
  [3, record({ ...OPERATION_FIELDS, ...L7_FIELDS })],
  [1, record(BAD_OPERATION)],
).map((fields) => ({ operation: fields }));
const condition = fc
  .constantFrom<[string, string[]]>(
    ['source.ip', ['10.0.0.0/24', '10.0.1.7']],
    ['source.namespace', ['shop', 'w*']],
    ['source.principal', ['*', 'cluster.local/ns/shop/*']],
    ['destination.ip', ['10.0.0.2', '10.0.0.4/30']],
    ['destination.port', ['80', '8080']],
    ['request.headers[x]', ['a']],
  )
  .chain(([key, values]) =>
    fc
      .record({ values: few(...values), notValues: few(...values) }, { requiredKeys: [] })
      .map((lists) => ({ key, ...lists })),
  )
  .filter(({ values, notValues }) => values !== undefined || notValues !== undefined);
const rule: fc.Arbitrary<Rule> = fc.record(
  {
    from: fc.array(source, { minLength: 1, maxLength: 2 }),
    to: fc.array(operation, { minLength: 1, maxLength: 2 }),
    when: fc.array(condition, { minLength: 1, maxLength: 2 }),
  },
  { requiredKeys: [] },
);
const selector = fc.constantFrom<Readonly<Record<string, string>> | undefined>(
  undefined,
  undefined,
  {},
  { app: 'web' },
  { app: 'web', tier: 'front' },
  { app: 'api' },
);
const policy: fc.Arbitrary<Policy> = fc.record({
  name: fc.constantFrom('p', 'q', 'r', 's'),
  namespace: fc.constantFrom('shop', 'shop', 'shop', ROOT, 'web'),
  action: fc.constantFrom('ALLOW', 'ALLOW', 'ALLOW', 'DENY'),
  selector,
  dryRun: weighted([8, fc.constant(false)], [1, fc.constant(true)]),
  targeted: weighted([8, fc.constant(false)], [1, fc.constant(true)]),
  rules: fc.array(rule, { maxLength: 2 }),
});
const mode = fc.constantFrom(undefined, 'UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT');
const peer: fc.Arbitrary<Peer> = fc
  .record({
    name: fc.constantFrom('x', 'y', 'z'),
    namespace: fc.constantFrom('shop', 'shop', ROOT),
    age: fc.integer({ min: 1, max: 3 }),
    selector,
    mode,
    ports: fc.option(
      fc.dictionary(
        fc.constantFrom('80', '8080'),
        mode.map((value) => value ?? 'UNSET'),
        { maxKeys: 2 },
      ),
      { nil: undefined },
    ),
  })
  .map((value) => (Object.keys(value.selector ?? {}).length === 0 ? { ...value, ports: undefined } : value));
const request: fc.Arbitrary<Request> = fc.record({
  source: fc.option(
    fc.record({
      trustDomain: fc.constantFrom('cluster.local', 'other'),
      namespace: fc.constantFrom('shop', 'web'),
      account: fc.constantFrom('front', 'back'),
    }),
    { nil: undefined, freq: 4 },
  ),
  sourceIp: fc.constantFrom('10.0.0.1', '10.0.0.200', '10.0.1.7', '2001:db8::1'),
  port: fc.constantFrom(80, 8080, 9090),
  http: fc.option(
    fc.record({
      method: fc.constantFrom('GET', 'POST'),
      path: fc.constantFrom('/a', '/b'),
      host: fc.constantFrom('web', 'api'),
    }),
    { nil: undefined },
  ),
});

function usesL7(policies: readonly Policy[]): boolean {
  return /"(not)?(methods|paths|hosts|Methods)"|request\.headers/.test(JSON.stringify(policies));
}

test('what agents enforce is never wider than what the policies say, and the same where they say nothing of L7', () => {
  const seen = { allowed: 0, denied: 0, stricter: 0, same: 0, standIns: 0 };
  fc.assert(
    fc.property(
      fc.uniqueArray(policy, { maxLength: 3, selector: ({ namespace, name }) => `${namespace}/${name}` }),
      fc.uniqueArray(peer, { maxLength: 3, selector: ({ namespace, name }) => `${namespace}/${name}` }),
      fc.array(request, { minLength: 1, maxLength: 4 }),
      (policies, peers, requests) => {
        const { mesh, valid } = agentOf([...policies.map(policyObject), ...peers.map(peerObject)]);
        if (!valid) seen.standIns++;
        const exact = valid && !usesL7(policies);
        for (const one of requests) {
          const enforced = agentAllows(mesh, one);
          const meant = isAllowed(policies, peers, one);
          assert.ok(!enforced || meant, `wider than written: ${JSON.stringify(one)}`);
          if (exact) assert.equal(enforced, meant, `not as written: ${JSON.stringify(one)}`);
          seen[enforced ? 'allowed' : 'denied']++;
          if (exact) seen.same++;
          else if (enforced !== meant) seen.stricter++;
        }
      },
    ),
    { numRuns: 4000 },
  );
  for (const [outcome, count] of Object.entries(seen)) assert.ok(count > 50, `only ${count} cases of: ${outcome}`);
});
