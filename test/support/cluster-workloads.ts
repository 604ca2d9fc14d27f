/** Objects for tests on a cluster: workloads of the image in test/cluster/app, which answers HTTP on port 8080. */

/** Imported by every node of the bed. */
export const APP_IMAGE = 'localhost/ambit-test-app:1';
export const APP_PORT = 8080;

export interface WorkloadOptions {
  readonly name: string;
  readonly namespace?: string;
  readonly serviceAccount?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Merged over the specification of the pod. */
  readonly podSpec?: object;
  /** Merged over the container. */
  readonly container?: object;
}

export function namespace(name: string, labels: Readonly<Record<string, string>> = {}): object {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
}

/** A Deployment whose pods are spread over the nodes, and labelled `app: <name>`. */
export function deployment(options: WorkloadOptions & { readonly replicas?: number }): object {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: metadata(options),
    spec: {
      replicas: options.replicas ?? 1,
      selector: { matchLabels: { app: options.name } },
      template: podTemplate(options),
    },
  };
}

export function daemonSet(options: WorkloadOptions): object {
  const spec = { selector: { matchLabels: { app: options.name } }, template: podTemplate(options) };
  return { apiVersion: 'apps/v1', kind: 'DaemonSet', metadata: metadata(options), spec };
}

export function pod(options: WorkloadOptions): object {
  const template = podTemplate(options);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...metadata(options), ...template.metadata },
    spec: template.spec,
  };
}

/** A ClusterIP service, port 80, of the pods labelled `app: <app or name>`. */
export function service(options: {
  readonly name: string;
  readonly namespace?: string;
  readonly app?: string;
}): object {
  const ports = [{ name: 'http', port: 80, targetPort: APP_PORT }];
  const spec = { selector: { app: options.app ?? options.name }, ports };
  return { apiVersion: 'v1', kind: 'Service', metadata: metadata(options), spec };
}

function podTemplate(options: WorkloadOptions): { metadata: object; spec: object } {
  const labels = { app: options.name, ...options.labels };
  return {
    metadata: { labels, annotations: options.annotations ?? {} },
    spec: {
      ...(options.serviceAccount === undefined ? {} : { serviceAccountName: options.serviceAccount }),
      terminationGracePeriodSeconds: 1,
      topologySpreadConstraints: [
        {
          maxSkew: 1,
          topologyKey: 'kubernetes.io/hostname',
          whenUnsatisfiable: 'ScheduleAnyway',
          labelSelector: { matchLabels: { app: options.name } },
        },
      ],
      containers: [
        {
          name: 'app',
          image: APP_IMAGE,
          imagePullPolicy: 'Never',
          ports: [{ containerPort: APP_PORT }],
          readinessProbe: { httpGet: { path: '/', port: APP_PORT }, periodSeconds: 1 },
          ...options.container,
        },
      ],
      ...options.podSpec,
    },
  };
}

function metadata({ name, namespace: within = 'default' }: { readonly name: string; readonly namespace?: string }) {
  return { name, namespace: within };
}
