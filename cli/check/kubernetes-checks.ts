/** The cluster itself: is it one the mesh can be installed on, and may this user do it? */
import { RESOURCES, type Resource, resourceName } from '../../kube/resource.ts';
import { type Check, failed, nameSome, ok, outcomes, skipped, warning } from './check.ts';
import { at, conditionOf, textAt } from './fields.ts';
import type { CheckWorld } from './world.ts';

/** Oldest minor version of Kubernetes 1 whose API is enough (field appArmorProfile, stable native sidecars). */
const OLDEST_MINOR = 30;
/** Rules, redirection and epoll as the agent uses them. */
const OLDEST_KERNEL = [5, 10] as const;
/** Certificates are made valid two minutes before they are issued. */
const MOST_SKEW_MS = 60_000;

export const KUBERNETES_CHECKS: readonly Check[] = [
  {
    id: 'kubernetes.api',
    group: 'kubernetes',
    about: `The API server answers and is Kubernetes 1.${OLDEST_MINOR} or newer.`,
    when: 'always',
    async run({ client }) {
      const version = await client.request({ method: 'GET', path: '/version' });
      const name = textAt(version, 'gitVersion');
      const minor = Number.parseInt(textAt(version, 'minor'), 10);
      if (Number.isNaN(minor)) return [warning(`the API server at ${client.server} does not tell its version`)];
      if (minor < OLDEST_MINOR) return [failed(`${name} is older than 1.${OLDEST_MINOR}`, 'upgrade the cluster first')];
      return ok(`${name} at ${client.server}`);
    },
  },
  {
    id: 'kubernetes.rights',
    group: 'kubernetes',
    about: 'Whoever runs the installation may create what it consists of.',
    when: 'pre',
    async run(world) {
      const refused: string[] = [];
      for (const resource of INSTALLED_RESOURCES)
        if (!(await mayCreate(world, resource))) refused.push(resourceName(resource));
      if (refused.length === 0) return ok(`${INSTALLED_RESOURCES.length} kinds of objects may be created`);
      return [
        failed(
          `not allowed to create ${refused.join(', ')}`,
          'ask for these rights, or run as a cluster administrator',
        ),
      ];
    },
  },
  {
    id: 'kubernetes.nodes',
    group: 'kubernetes',
    about: `Every Linux node is ready, runs kernel ${OLDEST_KERNEL.join('.')} or newer on amd64 or arm64.`,
    when: 'always',
    async run(world) {
      const nodes = (await world.nodes()).filter(
        (node) => textAt(node, 'status', 'nodeInfo', 'operatingSystem') !== 'windows',
      );
      if (nodes.length === 0)
        return [failed(world.node === undefined ? 'there are no nodes' : `there is no node ${world.node}`)];
      const problems = nodes.flatMap((node) => {
        const { name } = node.metadata;
        const info = at(node, 'status', 'nodeInfo');
        const kernel = textAt(info, 'kernelVersion');
        const architecture = textAt(info, 'architecture');
        if (!isRecentKernel(kernel)) {
          return [failed(`${name} runs kernel ${kernel}`, `update it to ${OLDEST_KERNEL.join('.')} or newer`)];
        }
        if (architecture !== 'amd64' && architecture !== 'arm64') return [failed(`${name} is ${architecture}`)];
        if (conditionOf(node, 'Ready') !== 'True')
          return [warning(`${name} is not ready`, `kubectl describe node ${name}`)];
        return [];
      });
      return outcomes(problems, `${nodes.length} ready: ${nameSome(nodes.map(({ metadata }) => metadata.name))}`);
    },
  },
  {
    id: 'kubernetes.clocks',
    group: 'kubernetes',
    about: 'The clocks of the nodes and of this machine agree: certificates of a node whose clock is off are refused.',
    when: 'always',
    async run(world) {
      const leases = await world.list(RESOURCES.Lease, 'kube-node-lease');
      const wanted = world.node === undefined ? leases : leases.filter(({ metadata }) => metadata.name === world.node);
      if (wanted.length === 0) return skipped('no node renews a lease');
      const problems = wanted.flatMap((lease) => {
        const renewedMs = Date.parse(textAt(lease, 'spec', 'renewTime'));
        const aheadMs = renewedMs - world.nowMs();
        // Behind is either a clock or a kubelet that is gone; ahead is a clock.
        if (aheadMs <= MOST_SKEW_MS) return [];
        const seconds = Math.round(aheadMs / 1000);
        return [
          failed(
            `the clock of ${lease.metadata.name} is ${seconds} s ahead of this machine`,
            'check time synchronisation (chrony, timesyncd)',
          ),
        ];
      });
      return outcomes(
        problems,
        `${wanted.length} nodes within ${MOST_SKEW_MS / 1000} s of this machine, as far as their leases tell`,
      );
    },
  },
  {
    id: 'kubernetes.gateway-api',
    group: 'kubernetes',
    about: 'The definitions of the Gateway API are there; without them there are no waypoints, everything else works.',
    when: 'always',
    async run(world) {
      const found = await world.client.find(
        RESOURCES.CustomResourceDefinition,
        '',
        'gateways.gateway.networking.k8s.io',
      );
      if (found !== undefined) return ok('installed');
      return [
        warning(
          'the kind Gateway is not defined: waypoints cannot be used',
          'kubectl apply --server-side -f <standard-install.yaml of the Gateway API>',
        ),
      ];
    },
  },
  {
    id: 'kubernetes.pod-security',
    group: 'kubernetes',
    about:
      'Pod Security admission lets the agents run in their namespace: they need capabilities and folders of the node.',
    when: 'always',
    async run(world) {
      const namespace = await world.client.find(RESOURCES.Namespace, '', world.namespace);
      if (namespace === undefined) return ok(`namespace ${world.namespace} is not there yet`);
      const level = textAt(namespace.metadata, 'labels', 'pod-security.kubernetes.io/enforce');
      if (level === '' || level === 'privileged')
        return ok(`namespace ${world.namespace}: ${level || 'not restricted'}`);
      return [
        failed(
          `namespace ${world.namespace} enforces ${level}`,
          `kubectl label namespace ${world.namespace} pod-security.kubernetes.io/enforce=privileged --overwrite`,
        ),
      ];
    },
  },
];

const INSTALLED_RESOURCES: readonly Resource[] = [
  RESOURCES.Namespace,
  RESOURCES.CustomResourceDefinition,
  RESOURCES.ClusterRole,
  RESOURCES.ClusterRoleBinding,
  RESOURCES.ValidatingWebhookConfiguration,
  RESOURCES.ServiceAccount,
  RESOURCES.ConfigMap,
  RESOURCES.Secret,
  RESOURCES.Service,
  RESOURCES.Deployment,
  RESOURCES.DaemonSet,
  RESOURCES.Role,
  RESOURCES.RoleBinding,
];

async function mayCreate({ client, namespace }: CheckWorld, resource: Resource): Promise<boolean> {
  const review = await client.review(RESOURCES.SelfSubjectAccessReview, '', {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: {
      resourceAttributes: {
        verb: 'create',
        group: resource.group,
        resource: resource.plural,
        ...(resource.namespaced ? { namespace } : {}),
      },
    },
  });
  return at(review, 'status', 'allowed') === true;
}

function isRecentKernel(version: string): boolean {
  const [, major = '0', minor = '0'] = /^([0-9]+)\.([0-9]+)/.exec(version) ?? [];
  const [oldestMajor, oldestMinor] = OLDEST_KERNEL;
  return Number(major) > oldestMajor || (Number(major) === oldestMajor && Number(minor) >= oldestMinor);
}
