/** The control plane and the identities it gives. */
import { X509Certificate } from 'node:crypto';
import { AGENT_VERSION } from '../../core/version.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { type Check, failed, nameSome, ok, outcomes, skipped, warning } from './check.ts';
import { labelOf, listAt, numberAt, textAt } from './fields.ts';
import type { CheckWorld } from './world.ts';

const DAY_MS = 86_400_000;
/** A root that ends sooner should be rotated now: agents need time to learn the next one. */
const LEAST_ROOT_DAYS = 60;
const LEASE_PATIENCE = 3;
/** Namespaces that get no root certificate: nothing of the mesh can run there. */
const WITHOUT_ROOT: ReadonlySet<string> = new Set(['kube-public', 'kube-node-lease', 'local-path-storage']);

export const CONTROL_CHECKS: readonly Check[] = [
  {
    id: 'control.ready',
    group: 'control plane',
    about: 'Replicas of the control plane are available.',
    when: 'installed',
    async run(world) {
      const deployments = await controlDeployments(world);
      if (deployments.length === 0) {
        return [
          failed(
            `no control plane in namespace ${world.namespace}`,
            'ambit install, or name its namespace with --namespace',
          ),
        ];
      }
      return deployments.flatMap((deployment) => {
        const wanted = numberAt(deployment, 'spec', 'replicas');
        const available = numberAt(deployment, 'status', 'availableReplicas');
        const { name } = deployment.metadata;
        if (available === 0)
          return [
            failed(
              `${name}: none of ${wanted} replicas is available`,
              `kubectl describe pods -n ${world.namespace} -l app.kubernetes.io/name=ambit-control`,
            ),
          ];
        if (available < wanted) return [warning(`${name}: ${available} of ${wanted} replicas are available`)];
        return ok(`${name}: ${available} of ${wanted} replicas are available`);
      });
    },
  },
  {
    id: 'control.version',
    group: 'control plane',
    about: 'Control plane and agents are of the version of this command.',
    when: 'installed',
    async run(world) {
      const parts = [...(await controlDeployments(world)), ...(await agentDaemonSets(world))];
      if (parts.length === 0) return skipped('nothing is installed');
      const others = parts.filter((one) => labelOf(one, 'app.kubernetes.io/version') !== AGENT_VERSION);
      const problems = others.map((one) =>
        warning(
          `${one.metadata.name} is ${labelOf(one, 'app.kubernetes.io/version') ?? 'of an unknown version'}, this command is ${AGENT_VERSION}`,
          'ambit upgrade',
        ),
      );
      return outcomes(problems, AGENT_VERSION);
    },
  },
  {
    id: 'control.leader',
    group: 'control plane',
    about: 'One replica is the writer: it writes status conditions, addresses and roots.',
    when: 'installed',
    async run(world) {
      const leases = (await world.list(RESOURCES.Lease, world.namespace)).filter(({ metadata }) =>
        metadata.name.startsWith('ambit-control'),
      );
      if (leases.length === 0)
        return [
          failed(
            'no replica has asked to be the writer',
            `kubectl logs -n ${world.namespace} -l app.kubernetes.io/name=ambit-control`,
          ),
        ];
      return leases.flatMap((lease) => {
        const holder = textAt(lease, 'spec', 'holderIdentity');
        const ageMs = world.nowMs() - Date.parse(textAt(lease, 'spec', 'renewTime'));
        const limitMs = numberAt(lease, 'spec', 'leaseDurationSeconds') * 1000 * LEASE_PATIENCE;
        if (holder === '') return [warning(`${lease.metadata.name} has no holder just now`)];
        if (ageMs > limitMs)
          return [failed(`${holder} has not renewed ${lease.metadata.name} for ${Math.round(ageMs / 1000)} s`)];
        return ok(`${holder} holds ${lease.metadata.name}`);
      });
    },
  },
  {
    id: 'control.webhook',
    group: 'control plane',
    about:
      'The API server knows the certificate of the validating webhook; without it policies are taken unchecked or refused.',
    when: 'installed',
    async run(world) {
      const found = (await world.list(RESOURCES.ValidatingWebhookConfiguration)).filter(
        (one) => labelOf(one, 'app.kubernetes.io/part-of') === 'ambit',
      );
      if (found.length === 0)
        return [
          warning(
            'no validating webhook: mistakes in policies are found at run time only',
            '--set ambit-control.configValidation.enabled=true',
          ),
        ];
      const problems = found.flatMap((configuration) =>
        listAt(configuration, 'webhooks')
          .filter((webhook) => textAt(webhook, 'clientConfig', 'caBundle') === '')
          .map((webhook) =>
            failed(
              `${textAt(webhook, 'name')} has no caBundle`,
              'the writer of the control plane fills it in: see control.leader',
            ),
          ),
      );
      return outcomes(problems, `${found.length} registered`);
    },
  },
  {
    id: 'identity.root',
    group: 'identity',
    about: `The root certificate of the mesh is valid for at least ${LEAST_ROOT_DAYS} days.`,
    when: 'installed',
    async run(world) {
      const config = await world.client.find(RESOURCES.ConfigMap, world.namespace, 'istio-ca-root-cert');
      const pem = config === undefined ? '' : textAt(config, 'data', 'root-cert.pem');
      const roots = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
      if (roots.length === 0)
        return [
          failed(
            `ConfigMap ${world.namespace}/istio-ca-root-cert holds no root certificate`,
            'the writer of the control plane makes it: see control.leader',
          ),
        ];
      const ends = roots.map((root) => new X509Certificate(root).validToDate.getTime());
      const days = Math.floor((Math.max(...ends) - world.nowMs()) / DAY_MS);
      const text = `${days} days left, ${roots.length} trusted`;
      if (days <= 0)
        return [failed('every root certificate has expired', 'replace the Secret of the CA and restart the agents')];
      return days < LEAST_ROOT_DAYS
        ? [warning(text, 'kubectl exec deploy/ambit-control -- kill -USR2 1 begins a rotation')]
        : ok(text);
    },
  },
  {
    id: 'identity.distribution',
    group: 'identity',
    about: 'Every namespace has the ConfigMap istio-ca-root-cert with the same roots.',
    when: 'installed',
    async run(world) {
      const namespaces = (await world.list(RESOURCES.Namespace))
        .filter((one) => !WITHOUT_ROOT.has(one.metadata.name) && textAt(one, 'status', 'phase') !== 'Terminating')
        .map(({ metadata }) => metadata.name);
      const maps = (await world.list(RESOURCES.ConfigMap)).filter(
        ({ metadata }) => metadata.name === 'istio-ca-root-cert',
      );
      const byNamespace = new Map(maps.map((one) => [one.metadata.namespace, textAt(one, 'data', 'root-cert.pem')]));
      const own = byNamespace.get(world.namespace) ?? '';
      const without = namespaces.filter((name) => byNamespace.get(name) !== own);
      if (without.length === 0) return ok(`${namespaces.length} namespaces`);
      return [
        failed(
          `missing or different in ${nameSome(without)}`,
          'the writer of the control plane makes it: see control.leader',
        ),
      ];
    },
  },
];

export async function controlDeployments(world: CheckWorld) {
  const all = await world.list(RESOURCES.Deployment, world.namespace);
  return all.filter((one) => labelOf(one, 'app.kubernetes.io/name') === 'ambit-control');
}

export async function agentDaemonSets(world: CheckWorld) {
  const all = await world.list(RESOURCES.DaemonSet, world.namespace);
  return all.filter((one) => labelOf(one, 'app.kubernetes.io/name') === 'ambit-agent');
}
