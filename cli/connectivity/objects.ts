/** The objects of `ambit test connectivity`: a namespace in the mesh with servers and clients, and the policies put on them. Pure. */

export const APP_PORT = 8080;
export const CONTROL_PORT = 9090;
export const TEST_LABEL = 'app.kubernetes.io/managed-by';
export const TEST_LABEL_VALUE = 'ambit-test';
const PROGRAM = 'program.mts';
const PROGRAM_FOLDER = '/program';

export interface TestPod {
  readonly name: string;
  readonly role: 'server' | 'client';
  readonly node: string;
  /** False: it stays outside the mesh. */
  readonly inMesh: boolean;
}

export interface TestPlan {
  readonly namespace: string;
  readonly image: string;
  readonly pods: readonly TestPod[];
}

/** Two nodes, or one and then nothing across. `client` is who is let in, `other` who is not, `outside` has no identity. */
export function planTest(namespace: string, image: string, nodes: readonly string[]): TestPlan {
  const [first = '', second] = nodes;
  const pod = (name: string, role: TestPod['role'], node: string, inMesh = true): TestPod => ({
    name,
    role,
    node,
    inMesh,
  });
  return {
    namespace,
    image,
    pods: [
      pod('echo-same', 'server', first),
      ...(second === undefined ? [] : [pod('echo-cross', 'server', second)]),
      pod('client', 'client', first),
      pod('other', 'client', first),
      pod('outside', 'client', first, false),
    ],
  };
}

/** In the order in which they are created; `program` is the text of pod-program.ts. */
export function testObjects({ namespace, image, pods }: TestPlan, program: string): readonly object[] {
  return [
    {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name: namespace,
        labels: {
          [TEST_LABEL]: TEST_LABEL_VALUE,
          'istio.io/dataplane-mode': 'ambient',
          'pod-security.kubernetes.io/enforce': 'restricted',
        },
      },
    },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'program', namespace }, data: { [PROGRAM]: program } },
    ...pods.map(({ name }) => ({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } })),
    ...pods.filter(({ role }) => role === 'server').map(({ name }) => serviceOf(namespace, name)),
    ...pods.map((pod) => podOf(namespace, image, pod)),
  ];
}

function serviceOf(namespace: string, name: string): object {
  const spec = { selector: { app: name }, ports: [{ name: 'http', port: 80, targetPort: APP_PORT }] };
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace }, spec };
}

function podOf(namespace: string, image: string, { name, role, node, inMesh }: TestPod): object {
  const probe = { httpGet: { path: '/', port: APP_PORT }, periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 2 };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      labels: { app: name, role, ...(inMesh ? {} : { 'istio.io/dataplane-mode': 'none' }) },
    },
    spec: {
      serviceAccountName: name,
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 1,
      affinity: nodeAffinity(node),
      securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'app',
          image,
          imagePullPolicy: 'IfNotPresent',
          command: ['node', `${PROGRAM_FOLDER}/${PROGRAM}`],
          env: [
            { name: 'ROLE', value: role },
            { name: 'POD_NAME', value: name },
          ],
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
          ...(role === 'server' ? { readinessProbe: probe } : {}),
          volumeMounts: [{ name: 'program', mountPath: PROGRAM_FOLDER, readOnly: true }],
        },
      ],
      volumes: [{ name: 'program', configMap: { name: 'program' } }],
    },
  };
}

/** By the scheduler, so that a node that takes no pods is respected. */
function nodeAffinity(node: string): object {
  const terms = [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [node] }] }];
  return { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } } };
}

/** Every test replaces the former policy of its kind: they have one name. */
export const POLICY_NAME = 'ambit-test';

export function peerAuthentication(namespace: string, mode: 'STRICT' | 'PERMISSIVE'): object {
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'PeerAuthentication',
    metadata: { name: POLICY_NAME, namespace },
    spec: { mtls: { mode } },
  };
}

/** About the servers: only `client` comes in (ALLOW), or everybody but `client` (DENY). */
export function authorizationPolicy(namespace: string, action: 'ALLOW' | 'DENY'): object {
  // Whatever the trust domain is.
  const principals = [`*/ns/${namespace}/sa/client`];
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: POLICY_NAME, namespace },
    spec: {
      selector: { matchLabels: { role: 'server' } },
      action,
      rules: [{ from: [{ source: { principals } }] }],
    },
  };
}
