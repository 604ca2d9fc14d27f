/** What else in the cluster would fight with the mesh over packets, names or configuration files. */
import { RESOURCES } from '../../kube/resource.ts';
import { type Check, type CheckOutcome, failed, nameSome, ok, outcomes, warning } from './check.ts';
import { fullName, labelOf, textAt } from './fields.ts';

const AMBIT_CHART = 'ambit-agent';

export const CONFLICT_CHECKS: readonly Check[] = [
  {
    id: 'conflicts.agents',
    group: 'conflicts',
    about: 'No other ambient agent captures pods on the same nodes: two of them would redirect the same packets.',
    when: 'always',
    async run(world) {
      const daemonSets = await world.list(RESOURCES.DaemonSet);
      const rivals = daemonSets.filter(
        (one) => labelOf(one, 'app.kubernetes.io/name') !== AMBIT_CHART && RIVAL_NAMES.has(one.metadata.name),
      );
      const problems = rivals.map((rival) =>
        failed(
          `DaemonSet ${fullName(rival)} captures pods too`,
          'let each node have one of them (nodeSelector, affinity), or uninstall the other first',
        ),
      );
      return outcomes(problems, 'no other node agent');
    },
  },
  {
    id: 'conflicts.control-plane',
    group: 'conflicts',
    about: 'The Service istiod of the namespace belongs to this mesh: agents find their control plane by that name.',
    when: 'pre',
    async run(world) {
      const service = await world.client.find(RESOURCES.Service, world.namespace, 'istiod');
      if (service === undefined || labelOf(service, 'app.kubernetes.io/part-of') === 'ambit')
        return ok('the name istiod is free');
      return [
        failed(
          `Service ${world.namespace}/istiod belongs to another control plane`,
          'install into another namespace, or set ambit-control.revision',
        ),
      ];
    },
  },
  {
    id: 'conflicts.cilium',
    group: 'conflicts',
    about:
      'Cilium, where it is the network, leaves the configurations of other plugins alone and does not rewrite service addresses inside pods.',
    when: 'always',
    async run(world) {
      const config = await world.client.find(RESOURCES.ConfigMap, 'kube-system', 'cilium-config');
      if (config === undefined) return ok('Cilium is not the network of this cluster');
      const setting = (name: string): string => textAt(config, 'data', name);
      const problems: CheckOutcome[] = [];
      if (setting('cni-exclusive') !== 'false') {
        problems.push(
          failed(
            'Cilium takes the configurations of other plugins away',
            'helm upgrade cilium ... --set cni.exclusive=false',
          ),
        );
      }
      const socketBalancing = setting('bpf-lb-sock') === 'true' || setting('kube-proxy-replacement') === 'true';
      if (socketBalancing && setting('bpf-lb-sock-hostns-only') !== 'true') {
        problems.push(
          failed(
            'Cilium replaces service addresses inside pods before the mesh sees them',
            'helm upgrade cilium ... --set socketLB.hostNamespaceOnly=true',
          ),
        );
      }
      if (setting('enable-bpf-masquerade') === 'true') {
        problems.push(
          warning(
            'Cilium masquerades in eBPF: probes of the kubelet may not be recognised',
            'helm upgrade cilium ... --set bpf.masquerade=false',
          ),
        );
      }
      return outcomes(problems, 'the settings of Cilium fit');
    },
  },
  {
    id: 'conflicts.injection',
    group: 'conflicts',
    about: 'No namespace asks for sidecars and for the ambient mesh at once: a pod with a sidecar is not captured.',
    when: 'always',
    async run(world) {
      const both = (await world.list(RESOURCES.Namespace)).filter(
        (one) => labelOf(one, 'istio.io/dataplane-mode') === 'ambient' && labelOf(one, 'istio-injection') === 'enabled',
      );
      if (both.length === 0) return ok('no namespace has both labels');
      const names = both.map(({ metadata }) => metadata.name);
      return [warning(`labelled for both: ${nameSome(names)}`, `kubectl label namespace ${names[0]} istio-injection-`)];
    },
  },
];

const RIVAL_NAMES: ReadonlySet<string> = new Set(['istio-cni-node', 'ztunnel', 'kmesh', 'linkerd-cni']);
