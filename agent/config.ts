/**
 * The configuration of the node agent: one table of settings, read from the environment (Istio's names where they
 * exist), and the command line flags that override them. The table yields the type, the start-up dump and the page
 * `docs/CONFIGURATION.md`. Reading is pure and reports every mistake at once.
 */
import { availableParallelism } from 'node:os';
import { DEFAULT_EXCLUDED_NAMESPACES } from '../core/enrolment/eligibility.ts';
import { AmbitError } from '../core/errors.ts';
import { ADMIN_PORT, METRICS_PORT, READINESS_PORT } from '../core/ports.ts';
import {
  boolean,
  duration,
  endpoint,
  integer,
  names,
  oneOf,
  optionalPath,
  optionalText,
  paths,
  port,
  type Setting,
  setting,
  text,
  workers,
} from './setting.ts';

/** Value of `podSource` for the API server. */
export const KUBERNETES = 'kubernetes';

/** Every setting of the agent. Keys are the names in code and in the start-up dump. */
export const SETTINGS = {
  nodeName: setting({
    env: ['NODE_NAME'],
    parse: text,
    default: () => '',
    documentation: 'Name of this node as the control plane knows it. Unset: pods of any node count as local ones.',
  }),
  runDirectory: setting({
    env: ['AMBIT_RUN_DIR'],
    parse: text,
    default: () => '/var/run/ambit',
    documentation: 'Folder of the sockets and of the pod state that survives a restart.',
  }),
  xdsAddress: setting<string | undefined>({
    env: ['XDS_ADDRESS'],
    parse: endpoint,
    default: () => undefined,
    documentation: 'Control plane serving delta xDS. Unset: only the local configuration file is used.',
  }),
  xdsRootCa: setting<string | undefined>({
    env: ['XDS_ROOT_CA'],
    parse: optionalText,
    default: () => undefined,
    documentation: 'File with the roots that verify the control plane (PEM). Unset: as CA_ROOT_CA.',
  }),
  caAddress: setting<string | undefined>({
    env: ['CA_ADDRESS'],
    parse: endpoint,
    default: () => undefined,
    documentation: 'Certificate authority (istio.v1.auth). Unset: as XDS_ADDRESS.',
  }),
  caRootCa: setting<string | undefined>({
    env: ['CA_ROOT_CA'],
    parse: optionalText,
    default: () => undefined,
    documentation: 'File with the roots that verify the certificate authority (PEM).',
  }),
  rootConfigMap: setting<string | undefined>({
    env: ['AMBIT_ROOT_CONFIG_MAP'],
    parse: optionalText,
    default: () => undefined,
    documentation: 'ConfigMap in POD_NAMESPACE whose `root-cert.pem` stands in for root files that do not exist yet.',
  }),
  authTokenFile: setting<string | undefined>({
    env: ['AUTH_TOKEN'],
    parse: optionalText,
    default: () => undefined,
    documentation: 'File with the token this agent authenticates with; read again for each use.',
  }),
  trustDomain: setting({
    env: ['TRUST_DOMAIN'],
    chart: 'trustDomain',
    parse: text,
    default: () => 'cluster.local',
    documentation: 'Trust domain of the identities of local pods.',
  }),
  revocationFile: setting<string | undefined>({
    env: ['CRL_PATH'],
    parse: optionalText,
    default: () => undefined,
    documentation: 'File with revocation lists (PEM or DER) that peers are checked against; looked at every 2 s.',
  }),
  network: setting({
    env: ['NETWORK'],
    chart: 'global.network',
    parse: text,
    default: () => '',
    documentation: 'Network this node belongs to.',
  }),
  clusterId: setting({
    env: ['ISTIO_META_CLUSTER_ID', 'CLUSTER_ID'],
    chart: 'global.multiCluster.clusterName',
    parse: text,
    default: () => 'Kubernetes',
    documentation: 'Cluster this node belongs to; a label of the metrics.',
  }),
  workers: setting({
    env: ['AMBIT_WORKERS', 'ZTUNNEL_WORKER_THREADS'],
    chart: 'workers',
    parse: workers,
    default: () => Math.ceil(availableParallelism() / 4),
    unit: 'threads',
    documentation: 'Data plane threads: a number, 0 for all cores, or p% of the cores.',
  }),
  outboundPolicy: setting<'ALLOW_ANY' | 'REGISTRY_ONLY'>({
    env: ['OUTBOUND_POLICY'],
    chart: 'outboundPolicy',
    parse: oneOf('ALLOW_ANY', 'REGISTRY_ONLY'),
    default: () => 'ALLOW_ANY',
    documentation: 'What happens to connections whose destination the registry does not know.',
  }),
  forceEncryption: setting({
    env: ['FORCE_ENCRYPTION'],
    chart: 'ambient.forceEncryption',
    parse: boolean,
    default: () => false,
    documentation: 'Tunnels also between pods of this node, instead of the direct path.',
  }),
  secretTtlMs: setting({
    env: ['SECRET_TTL'],
    parse: duration,
    default: () => 86_400_000,
    unit: 'duration',
    documentation: 'Requested lifetime of workload certificates.',
  }),
  logFormat: setting<'json' | 'plain'>({
    env: ['LOG_FORMAT'],
    parse: oneOf('json', 'plain'),
    default: () => 'plain',
    documentation: 'Format of the access log on standard output.',
  }),
  accessLog: setting({
    env: ['AMBIT_ACCESS_LOG'],
    chart: 'accessLog',
    parse: boolean,
    default: () => true,
    documentation:
      'Writes one line per connection, and what dry-run policies would have done to it, to standard output.',
  }),
  logLevel: setting<'debug' | 'info' | 'warn' | 'error'>({
    env: ['AMBIT_LOG_LEVEL'],
    chart: 'logLevel',
    parse: oneOf('debug', 'info', 'warn', 'error'),
    default: () => 'info',
    documentation: 'Level of the agent log on standard error; changeable at run time.',
  }),
  terminationGracePeriodSeconds: setting<number | undefined>({
    env: ['TERMINATION_GRACE_PERIOD_SECONDS'],
    chart: 'terminationGracePeriodSeconds',
    parse: integer(0, 86_400),
    default: () => undefined,
    unit: 'seconds',
    documentation: 'Time the platform leaves between SIGTERM and SIGKILL; connections may end until a little before.',
  }),
  terminationDeadlineMs: setting<number | undefined>({
    env: ['CONNECTION_TERMINATION_DEADLINE'],
    parse: duration,
    default: () => undefined,
    unit: 'duration',
    documentation: 'Time connections have to end after SIGTERM. Unset: derived from the grace period, else 5 s.',
  }),
  localConfigPath: setting<string | undefined>({
    env: ['LOCAL_XDS_PATH'],
    parse: optionalText,
    default: () => undefined,
    documentation: 'YAML file with workloads, services and policies, read at start.',
  }),
  podSource: setting<string | undefined>({
    env: ['AMBIT_POD_SOURCE'],
    parse: optionalText,
    default: () => undefined,
    documentation:
      'Who tells labels and service accounts of pods: `kubernetes` (the API server; needs NODE_NAME), or a folder with Kubernetes YAML. Unset: no enrolment.',
  }),
  kubeconfig: setting<string | undefined>({
    env: ['AMBIT_KUBECONFIG', 'KUBECONFIG'],
    parse: optionalText,
    default: () => undefined,
    documentation: 'File with the way to the API server. Unset: the credential Kubernetes mounts into the pod.',
  }),
  podName: setting({
    env: ['POD_NAME'],
    parse: text,
    default: () => '',
    documentation:
      'Name of the pod of this agent: who it is for the control plane and in events. Unset: the host name.',
  }),
  podNamespace: setting({
    env: ['POD_NAMESPACE'],
    parse: text,
    default: () => 'istio-system',
    documentation: 'Namespace of the pod of this agent.',
  }),
  hostNetns: setting<string | undefined>({
    env: ['AMBIT_HOST_NETNS'],
    parse: optionalPath,
    default: () => undefined,
    documentation:
      "Path of the node's network namespace (`/proc/self/ns/net` on the host network, else one under the mounted /proc of the node). Its rules exempt probes of kubelet. Unset: they are left alone, and probes are judged like all traffic.",
  }),
  hostProc: setting<string | undefined>({
    env: ['AMBIT_HOST_PROC'],
    parse: optionalPath,
    default: () => undefined,
    documentation:
      "Where the node's /proc is visible: finds running pods that no mount leads to, and the user of kubelet. Unset: without.",
  }),
  netnsDirectories: setting<readonly string[]>({
    env: ['AMBIT_NETNS_DIRECTORIES'],
    parse: paths,
    default: () => ['/var/run/netns', '/var/run/docker/netns'],
    documentation: 'Folders where container runtimes mount network namespaces, separated by commas.',
  }),
  daemonSet: setting<string | undefined>({
    env: ['AMBIT_DAEMONSET'],
    parse: optionalText,
    default: () => undefined,
    documentation:
      'DaemonSet this agent belongs to, in POD_NAMESPACE: asked at the end whether the agent is replaced or removed. Unset: always replaced.',
  }),
  hostRoot: setting({
    env: ['AMBIT_HOST_ROOT'],
    parse: text,
    default: () => '/',
    documentation: "Where the node's file system is visible to the agent.",
  }),
  cniExecutable: setting<string | undefined>({
    env: ['AMBIT_CNI_EXECUTABLE'],
    parse: optionalPath,
    default: () => undefined,
    documentation:
      'The built CNI plugin, which the agent installs and keeps installed. Unset: somebody else does that.',
  }),
  cniBinaryFolder: setting<string | undefined>({
    env: ['AMBIT_CNI_BIN_DIR'],
    parse: optionalPath,
    default: () => undefined,
    documentation: "Folder of CNI plugins on the node. Unset: as the container runtime's configuration says.",
  }),
  cniConfigFolder: setting<string | undefined>({
    env: ['AMBIT_CNI_CONF_DIR'],
    parse: optionalPath,
    default: () => undefined,
    documentation: "Folder of CNI configurations on the node. Unset: as the container runtime's configuration says.",
  }),
  selfTest: setting({
    env: ['AMBIT_SELF_TEST'],
    parse: boolean,
    default: () => true,
    documentation: 'After a pod was enrolled, a connection from inside it has to prove that it is captured.',
  }),
  excludedNamespaces: setting<readonly string[]>({
    env: ['AMBIT_EXCLUDED_NAMESPACES'],
    parse: names,
    default: () => DEFAULT_EXCLUDED_NAMESPACES,
    documentation: 'Namespaces whose pods are never enrolled, separated by commas.',
  }),
  readinessWaitMs: setting({
    env: ['AMBIT_READINESS_WAIT'],
    parse: duration,
    default: () => 5000,
    unit: 'duration',
    documentation: "How long a connection waits for its pod's announcement and certificate.",
  }),
  poolMaxStreamsPerConnection: setting({
    env: ['POOL_MAX_STREAMS_PER_CONNECTION'],
    parse: integer(1, 10_000),
    default: () => 100,
    unit: 'streams',
    documentation: 'Connections carried by one tunnel before another tunnel is opened.',
  }),
  poolIdleReleaseMs: setting({
    env: ['POOL_UNUSED_RELEASE_TIMEOUT'],
    parse: duration,
    default: () => 300_000,
    unit: 'duration',
    documentation: 'An unused tunnel is closed after this time.',
  }),
  keepaliveEnabled: setting({
    env: ['KEEPALIVE_ENABLED'],
    parse: boolean,
    default: () => true,
    documentation: 'TCP keepalive on the connections of applications.',
  }),
  adminPort: setting({
    env: ['AMBIT_ADMIN_PORT'],
    parse: port,
    default: () => ADMIN_PORT,
    documentation: 'Admin pages, on loopback only. 0: any free port.',
  }),
  metricsPort: setting({
    env: ['AMBIT_METRICS_PORT'],
    parse: port,
    default: () => METRICS_PORT,
    documentation: 'Prometheus metrics. 0: any free port.',
  }),
  readinessPort: setting({
    env: ['AMBIT_READINESS_PORT'],
    parse: port,
    default: () => READINESS_PORT,
    documentation: 'Readiness probe. 0: any free port.',
  }),
} as const;

type ValueOf<S> = S extends Setting<infer T> ? T : never;
export type SettingKey = keyof typeof SETTINGS;
/** What the table yields. Durations are milliseconds. */
export type SettingValues = { readonly [K in SettingKey]: ValueOf<(typeof SETTINGS)[K]> };

/** The pod a dedicated agent serves. */
export interface DedicatedWorkload {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
}

export interface AgentConfig extends SettingValues {
  /** Present in dedicated mode: one pod, this process's own network namespace. */
  readonly dedicated?: DedicatedWorkload;
  /** Folder with `key.pem`, `cert-chain.pem`, `root-cert.pem`; replaces the certificate authority. */
  readonly identityDirectory?: string;
  /** Dedicated mode installs the capture rules in its own namespace and removes them at the end. */
  readonly capture: boolean;
}

/** Flags of `ambit agent`; every other setting comes from the environment. */
export interface AgentFlags {
  readonly dedicated?: string;
  readonly config?: string;
  readonly identityDir?: string;
  readonly capture?: boolean;
}

/**
 * Builds the configuration. Throws one AmbitError('CONFIGURATION') whose text lists every mistake, one per line.
 */
export function readConfig(environment: Readonly<Record<string, string | undefined>>, flags: AgentFlags): AgentConfig {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, row] of Object.entries<Setting<unknown>>(SETTINGS)) {
    const name = row.env.find((candidate) => environment[candidate] !== undefined);
    const given = name === undefined ? undefined : environment[name];
    const parsed = given === undefined ? { ok: true as const, value: row.default() } : row.parse(given.trim());
    if (parsed.ok) values[key] = parsed.value;
    else problems.push(`${name}: expected ${parsed.expected}${row.secret ? '' : `, got ${JSON.stringify(given)}`}`);
  }
  const dedicated = readDedicated(flags, problems);
  if (values.podSource === KUBERNETES && values.nodeName === '')
    problems.push(`NODE_NAME: must be set when AMBIT_POD_SOURCE is ${KUBERNETES}`);
  if (flags.capture && dedicated === undefined) problems.push('--capture needs --dedicated');
  if (problems.length > 0) throw new AmbitError('CONFIGURATION', problems.join('\n'));
  // Every key of the table was filled from its own row just above.
  const settings = values as unknown as SettingValues;
  return {
    ...settings,
    ...(flags.config === undefined ? {} : { localConfigPath: flags.config }),
    ...(dedicated === undefined ? {} : { dedicated, podSource: undefined }),
    ...(flags.identityDir === undefined ? {} : { identityDirectory: flags.identityDir }),
    capture: flags.capture ?? false,
  };
}

function readDedicated(flags: AgentFlags, problems: string[]): DedicatedWorkload | undefined {
  if (flags.dedicated === undefined) return undefined;
  const [namespace, name, serviceAccount, ...rest] = flags.dedicated.split('/');
  if (!namespace || !name || !serviceAccount || rest.length > 0) {
    problems.push(`--dedicated: expected <namespace>/<name>/<service account>, got ${JSON.stringify(flags.dedicated)}`);
    return undefined;
  }
  return { namespace, name, serviceAccount };
}

/** Time connections may take to end after SIGTERM (l4: deadline, else grace period minus a margin, else 5 s). */
export function drainGraceMs(config: SettingValues): number {
  if (config.terminationDeadlineMs !== undefined) return config.terminationDeadlineMs;
  const seconds = config.terminationGracePeriodSeconds;
  if (seconds === undefined) return 5000;
  return Math.max(1, seconds - (seconds > 10 ? 5 : 1)) * 1000;
}

/** Start-up dump: every key with its value, secrets replaced. */
export function describeConfig(config: AgentConfig): Record<string, unknown> {
  const shown: Record<string, unknown> = { ...config };
  for (const [key, row] of Object.entries<Setting<unknown>>(SETTINGS)) {
    if (row.secret && shown[key] !== undefined) shown[key] = '[redacted]';
  }
  return shown;
}
