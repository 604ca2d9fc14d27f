/**
 * The rights of the control plane are those that it uses, and not one verb more: for every verb of every rule of the
 * chart, a user who lacks just that verb is refused what the control plane does with it. That everything works with all
 * of them is in control.test.ts, which runs with the same rules.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { isForbidden } from '../../kube/api-error.ts';
import { KubeClient } from '../../kube/client.ts';
import { apiVersionOf, collectionPath, objectPath, RESOURCES, type Resource } from '../../kube/resource.ts';
import { clusterBinary, missingBinaries } from '../support/cluster-binaries.ts';
import { MESH_NAMESPACE, renderChart } from '../support/control-chart.ts';
import { eventually } from '../support/eventually.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';
import { createAuthority } from '../support/pki.ts';

/** What breaks without it, by `<resources>[ <name>] <verb>`. A right without a use has no row, and the test fails. */
const USES: Readonly<Record<string, string>> = {
  ...read('namespaces', 'which namespaces are in the mesh; roots are handed out to each'),
  ...read('nodes', 'localities of workloads; taints'),
  ...read('pods', 'workloads, and which identities a node may have'),
  ...read('services', 'services'),
  ...read('serviceaccounts', 'identities that policies name'),
  ...read('endpointslices', 'endpoints that no pod stands behind'),
  ...read('gateways', 'waypoints'),
  ...read('gatewayclasses', 'which gateways are waypoints'),
  ...read('authorizationpolicies', 'policies'),
  ...read('peerauthentications', 'mutual TLS modes'),
  ...read('serviceentries', 'services outside of the cluster'),
  ...read('workloadentries', 'workloads outside of the cluster'),
  'services get': 'conditions of services: what stands is looked at before it is written',
  'authorizationpolicies get': 'conditions of policies',
  'peerauthentications get': 'conditions of mutual TLS modes',
  'serviceentries get': 'conditions of service entries',
  'workloadentries get': 'conditions of workload entries',
  'services/status patch': 'WaypointBound on services',
  'authorizationpolicies/status patch': 'ZtunnelAccepted, WaypointAccepted',
  'peerauthentications/status patch': 'ZtunnelAccepted',
  'serviceentries/status patch': 'automatic addresses, WaypointBound',
  'workloadentries/status patch': 'WaypointBound on workload entries',
  'gatewayclasses istio-waypoint get': 'whether the class of waypoints is there',
  'gatewayclasses istio-waypoint create': 'making the class of waypoints',
  'gatewayclasses istio-waypoint patch': 'making the class of waypoints (by server-side apply)',
  'gatewayclasses/status istio-waypoint patch': 'Accepted on the class of waypoints',
  'tokenreviews create': 'authentication of agents and workloads',
  ...distributed('istio-ca-root-cert', 'the roots in every namespace'),
  ...distributed('istio-ca-crl', 'revocation lists in every namespace'),
  'clustertrustbundles istio.io:istiod-ca:root-cert get': 'whether the trust bundle is as it shall be',
  'clustertrustbundles istio.io:istiod-ca:root-cert create': 'making the trust bundle',
  'clustertrustbundles istio.io:istiod-ca:root-cert patch': 'new roots in the trust bundle',
  'signers istio.io/istiod-ca attest': 'making a trust bundle of our signer',
  'nodes get': 'the taints that a node has now',
  'nodes patch': 'taking the taint off a node',
  'validatingwebhookconfigurations ambit-validation get': 'whether the webhook has our roots',
  'validatingwebhookconfigurations ambit-validation patch': 'giving the webhook our roots',
  'leases create': 'the first election',
  'leases ambit-control get': 'who leads',
  'leases ambit-control update': 'leading',
  'leases ambit-control patch': 'handing over at the end',
  'secrets create': 'the first root of the CA',
  'secrets istio-ca-secret get': 'the root of the CA',
  ...read('secrets istio-ca-secret', 'taking over a root that another replica has rotated'),
  'secrets istio-ca-secret update': 'rotation of the root',
  'secrets cacerts get': 'a CA that is plugged in',
  ...read('secrets cacerts', 'a plugged-in CA that is replaced'),
  ...read('configmaps istio', 'MeshConfig'),
};

function read(what: string, use: string): Record<string, string> {
  return { [`${what} list`]: use, [`${what} watch`]: use };
}

function distributed(name: string, use: string): Record<string, string> {
  return {
    ...read(`configmaps ${name}`, `${use}, also where somebody edits or deletes them`),
    [`configmaps ${name} create`]: use,
    [`configmaps ${name} patch`]: `${use} (by server-side apply)`,
  };
}

/** One verb of one resource of one rule. */
interface Right {
  readonly role: unknown;
  readonly group: string;
  readonly resource: string;
  /** Empty: any. */
  readonly name: string;
  readonly verb: string;
}

const skip = missingBinaries(['helm']).length > 0 ? `needs ${clusterBinary('helm')}` : false;

describe('the rights of the control plane', { skip }, () => {
  let api: KubeApi;
  const clients: KubeClient[] = [];
  const chart = skip === false ? renderChart('ambit-control') : [];
  const roles = chart.filter((object) => ['ClusterRole', 'Role'].includes(textAt(object, 'kind')));
  const rights = roles.flatMap(rightsOf);

  before(async () => {
    api = await openKubeApi({ crds: false, gatewayApi: true });
    await api.namespace(MESH_NAMESPACE);
    await api.namespace('shop');
  });
  after(async () => {
    for (const client of clients) client.close();
    await api[Symbol.asyncDispose]();
  });

  test('are all named with what they are for, and nothing is named that is not granted', () => {
    assert.deepEqual(rights.map(keyOf).sort(), Object.keys(USES).sort());
  });

  test('never hold a wildcard, and never more of Secrets than two by name in the own namespace', () => {
    for (const { group, resource, name, verb } of rights) {
      assert.ok(![group, resource, name, verb].includes('*'), `${group} ${resource} ${verb}`);
    }
    const secrets = rights.filter(({ resource }) => resource === 'secrets');
    assert.ok(secrets.every(({ role }) => textAt(role, 'kind') === 'Role'));
    assert.deepEqual([...new Set(secrets.map(({ name }) => name))].sort(), ['', 'cacerts', 'istio-ca-secret']);
  });

  test('are each used: without it, what it is for is refused', async () => {
    // With all of them nothing is refused.
    const all = await user('all', roles);
    await Promise.all(
      rights.map((right) =>
        eventually(`${keyOf(right)} is granted`, async () => assert.equal(await isRefused(all, right), false), 20_000),
      ),
    );
    const useless: string[] = [];
    await inTurns(rights, 8, async (right) => {
      const index = rights.indexOf(right);
      const less = roles.map((role) => (role === right.role ? without(role, right) : role));
      const client = await user(`less-${index}`, less);
      // First it must have the rest: a user whose roles are not in force yet is refused everything.
      const other = rights.find((candidate) => candidate.role === right.role && keyOf(candidate) !== keyOf(right));
      const witness = other ?? rights.find((candidate) => candidate.role !== right.role);
      assert.ok(witness !== undefined);
      await eventually(
        `the rights of user ${index} are in force`,
        async () => assert.equal(await isRefused(client, witness), false),
        20_000,
      );
      if (!(await isRefused(client, right))) useless.push(`${keyOf(right)}: ${USES[keyOf(right)]}`);
    });
    assert.deepEqual(useless, []);
  });

  /** A user with copies of these roles. */
  async function user(name: string, granted: readonly unknown[]): Promise<KubeClient> {
    for (const role of granted) {
      const kind = textAt(role, 'kind');
      const namespace = textAt(role, 'metadata', 'namespace');
      const id = `${textAt(role, 'metadata', 'name')}-${name}`;
      const metadata = namespace === '' ? { name: id } : { name: id, namespace };
      const [roleResource, bindingResource] =
        kind === 'Role'
          ? [RESOURCES.Role, RESOURCES.RoleBinding]
          : [RESOURCES.ClusterRole, RESOURCES.ClusterRoleBinding];
      const apiGroup = 'rbac.authorization.k8s.io';
      await api.call('POST', collectionPath(roleResource, namespace), {
        apiVersion: apiVersionOf(roleResource),
        kind,
        metadata,
        rules: valueAt(role, 'rules'),
      });
      await api.call('POST', collectionPath(bindingResource, namespace), {
        apiVersion: apiVersionOf(bindingResource),
        kind: `${kind}Binding`,
        metadata,
        roleRef: { apiGroup, kind, name: id },
        subjects: [{ apiGroup, kind: 'User', name }],
      });
    }
    const client = KubeClient.open({ kubeconfig: api.userKubeconfig({ user: name }), userAgent: 'test' });
    clients.push(client);
    return client;
  }
});

function keyOf({ resource, name, verb }: Right): string {
  return [resource, name, verb].filter((part) => part !== '').join(' ');
}

function texts(value: unknown, field: string): string[] {
  const list = valueAt(value, field);
  return Array.isArray(list) ? list.map(String) : [];
}

function rulesOf(role: unknown): unknown[] {
  const rules = valueAt(role, 'rules');
  return Array.isArray(rules) ? rules : [];
}

function rightsOf(role: unknown): Right[] {
  return rulesOf(role).flatMap((rule) => {
    const names = texts(rule, 'resourceNames');
    return texts(rule, 'apiGroups').flatMap((group) =>
      texts(rule, 'resources').flatMap((resource) =>
        (names.length === 0 ? [''] : names).flatMap((name) =>
          texts(rule, 'verbs').map((verb) => ({ role, group, resource, name, verb })),
        ),
      ),
    );
  });
}

/** The role with every right but one, each as a rule of its own. */
function without(role: unknown, missing: Right): unknown {
  const rules = rightsOf(role)
    .filter((right) => keyOf(right) !== keyOf(missing) || right.group !== missing.group)
    .map(({ group, resource, name, verb }) => ({
      apiGroups: [group],
      resources: [resource],
      verbs: [verb],
      ...(name === '' ? {} : { resourceNames: [name] }),
    }));
  return { ...(role as Record<string, unknown>), rules };
}

/** Kinds that are made by server-side apply; all others by POST. */
const APPLIED: ReadonlySet<string> = new Set(['configmaps', 'gatewayclasses', 'clustertrustbundles']);

const JSON_PATCH = { contentType: 'application/json-patch+json', query: { dryRun: 'All' } } as const;

/** Does with the right what the control plane does, without leaving anything behind; true when it is forbidden. */
async function isRefused(client: KubeClient, right: Right): Promise<boolean> {
  // Attesting is asked for when a bundle of the signer is written.
  if (right.verb === 'attest') {
    const bundle = { role: right.role, group: right.group, resource: 'clustertrustbundles', verb: 'create' };
    return isRefused(client, { ...bundle, name: 'istio.io:istiod-ca:root-cert' });
  }
  const [plural = '', subresource] = right.resource.split('/');
  const resource = Object.values<Resource>(RESOURCES).find(
    (candidate) => candidate.plural === plural && candidate.group === right.group,
  );
  assert.ok(resource !== undefined, `${right.group} ${plural} is not in the table of resources`);
  const own = textAt(right.role, 'metadata', 'namespace');
  const namespace = resource.namespaced ? own || 'shop' : '';
  const name = right.name === '' ? 'probe' : right.name;
  const selection: Record<string, string> = right.name === '' ? {} : { fieldSelector: `metadata.name=${right.name}` };
  const body = bodyOf(resource, namespace, name);
  const dryRun = { dryRun: 'All' };
  const apply = {
    method: 'PATCH',
    path: objectPath(resource, namespace, name, subresource),
    query: { ...dryRun, fieldManager: 'probe', force: 'true' },
    contentType: 'application/apply-patch+yaml',
    body,
  } as const;
  const list = collectionPath(resource, own);
  try {
    switch (right.verb) {
      case 'get':
        await client.request({ method: 'GET', path: objectPath(resource, namespace, name) });
        break;
      case 'list':
        await client.request({ method: 'GET', path: list, query: { ...selection, limit: '1' } });
        break;
      case 'watch':
        await client.request({
          method: 'GET',
          path: list,
          query: { ...selection, watch: 'true', timeoutSeconds: '1' },
        });
        break;
      case 'create':
        if (APPLIED.has(plural)) await client.request(apply);
        else {
          const path = collectionPath(resource, namespace);
          await client.request({ method: 'POST', path, query: dryRun, body });
        }
        break;
      case 'patch': {
        // Whether an object that is missing may be made is another question.
        const made = APPLIED.has(plural) && subresource === undefined;
        const patch = [{ op: 'test', path: '/metadata/name', value: name }];
        await client.request(made ? apply : { ...apply, ...JSON_PATCH, body: patch });
        break;
      }
      case 'update':
        await client.request({ method: 'PUT', path: objectPath(resource, namespace, name), query: dryRun, body });
        break;
      default:
        assert.fail(`nobody uses the verb ${right.verb}`);
    }
    return false;
  } catch (thrown) {
    if (isForbidden(thrown)) return true;
    // That there is no such object, or that this body is no good, comes after the question of rights.
    return false;
  }
}

const TRUST_BUNDLE = createAuthority().pem;

/** As valid as it must be for the question of rights to be asked. */
function bodyOf(resource: Resource, namespace: string, name: string): unknown {
  const metadata = namespace === '' ? { name } : { name, namespace };
  const spec = SPECS[resource.kind];
  const content = spec === undefined ? {} : { spec };
  return { apiVersion: apiVersionOf(resource), kind: resource.kind, metadata, ...content };
}

const SPECS: Readonly<Record<string, unknown>> = {
  ClusterTrustBundle: { signerName: 'istio.io/istiod-ca', trustBundle: TRUST_BUNDLE },
  GatewayClass: { controllerName: 'istio.io/mesh-controller' },
};

async function inTurns<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const run = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: width }, run));
}
