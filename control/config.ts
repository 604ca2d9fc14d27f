/**
 * The configuration of the control plane: one table of settings, each read from a flag, else from the environment, else
 * its default. Reading is pure and reports every mistake at once; the table also yields the help text.
 */
import { isIP } from 'node:net';
import { AmbitError } from '../core/errors.ts';
import { parseAuthority, type SocketAddress } from '../core/ip.ts';

type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly expected: string };

export interface Setting<T> {
  /** Without the leading dashes. */
  readonly flag: string;
  readonly env: string;
  readonly parse: (text: string) => Parsed<T>;
  /** As a user would write it; undefined: must be given. */
  readonly default: string | undefined;
  readonly documentation: string;
}

const ok = <T>(value: T): Parsed<T> => ({ ok: true, value });
const bad = <T>(expected: string): Parsed<T> => ({ ok: false, expected });

const path = (text: string): Parsed<string> => (text === '' ? bad('a path') : ok(text));
const optionalPath = (text: string): Parsed<string | undefined> => ok(text === '' ? undefined : text);

function name(text: string): Parsed<string> {
  return /^[A-Za-z0-9]([-A-Za-z0-9._]{0,251}[A-Za-z0-9])?$/.test(text) ? ok(text) : bad('a name');
}

function optionalName(text: string): Parsed<string> {
  return text === '' ? ok('') : name(text);
}

function dnsName(text: string): Parsed<string> {
  return /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(text) ? ok(text) : bad('a DNS name in lower case');
}

/** `ip:port`; port 0 lets the kernel choose. */
function listenAddress(text: string): Parsed<SocketAddress> {
  const expected = 'ip:port';
  const zero = text.endsWith(':0') ? `${text.slice(0, -1)}1` : text;
  const parsed = parseAuthority(zero);
  if (parsed?.kind !== 'address') return bad(expected);
  return ok(zero === text ? parsed.address : { ip: parsed.address.ip, port: 0 });
}

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

function duration(minimumMs: number): (text: string) => Parsed<number> {
  return (text) => {
    const match = /^([1-9][0-9]{0,8})(ms|s|m|h|d)$/.exec(text);
    const ms = Number(match?.[1]) * (UNIT_MS.get(match?.[2] ?? '') ?? Number.NaN);
    return Number.isSafeInteger(ms) && ms >= minimumMs ? ok(ms) : bad('a duration such as 30s, 5m, 24h or 90d');
  };
}

function integer(minimum: number, maximum: number): (text: string) => Parsed<number> {
  return (text) => {
    const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
    return value >= minimum && value <= maximum ? ok(value) : bad(`a whole number from ${minimum} to ${maximum}`);
  };
}

function commaSeparated(pattern: RegExp, expected: string): (text: string) => Parsed<readonly string[]> {
  return (text) => {
    const values = text === '' ? [] : text.split(',').map((value) => value.trim());
    return values.every((value) => pattern.test(value)) ? ok(values) : bad(expected);
  };
}

function serverNames(text: string): Parsed<readonly string[]> {
  const values = text === '' ? [] : text.split(',').map((value) => value.trim());
  const sound = values.every((value) => isIP(value) !== 0 || dnsName(value).ok);
  return sound ? ok(values) : bad('DNS names and IP addresses, separated by commas');
}

function row<T>(setting: Setting<T>): Setting<T> {
  return setting;
}

const ACCOUNT = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

export const CONTROL_SETTINGS = {
  configDir: row({
    flag: 'config-dir',
    env: 'AMBIT_CONFIG_DIR',
    parse: path,
    default: undefined,
    documentation: 'Folder of Kubernetes YAML that is watched.',
  }),
  stateDir: row({
    flag: 'state-dir',
    env: 'AMBIT_STATE_DIR',
    parse: path,
    default: undefined,
    documentation: 'Folder of the CA: its keys, and root-cert.pem for clients. Kept across restarts.',
  }),
  listen: row({
    flag: 'listen',
    env: 'AMBIT_LISTEN',
    parse: listenAddress,
    default: '0.0.0.0:15012',
    documentation: 'Where xDS and the CA are served over TLS.',
  }),
  statusListen: row({
    flag: 'status-listen',
    env: 'AMBIT_STATUS_LISTEN',
    parse: listenAddress,
    default: '127.0.0.1:15014',
    documentation: 'Where readiness, metrics and read-only state are served without TLS.',
  }),
  serverNames: row({
    flag: 'server-names',
    env: 'AMBIT_SERVER_NAMES',
    parse: serverNames,
    default: 'localhost,127.0.0.1',
    documentation:
      'Names and addresses in the server certificate, besides the listening address and istiod.<root namespace>.svc.',
  }),
  tokenKey: row({
    flag: 'token-key',
    env: 'AMBIT_TOKEN_KEY',
    parse: optionalPath,
    default: '',
    documentation:
      'P-256 private key (PEM) whose tokens are accepted; made when absent. Empty: token-key.pem in the state folder.',
  }),
  clusterId: row({
    flag: 'cluster-id',
    env: 'CLUSTER_ID',
    parse: name,
    default: 'Kubernetes',
    documentation: 'First part of the names of workloads.',
  }),
  network: row({
    flag: 'network',
    env: 'NETWORK',
    parse: optionalName,
    default: '',
    documentation: 'Network of all workloads of this source.',
  }),
  trustDomain: row({
    flag: 'trust-domain',
    env: 'TRUST_DOMAIN',
    parse: dnsName,
    default: 'cluster.local',
    documentation: 'Trust domain of every identity. Cannot change once the CA has roots.',
  }),
  clusterDomain: row({
    flag: 'cluster-domain',
    env: 'CLUSTER_DOMAIN',
    parse: dnsName,
    default: 'cluster.local',
    documentation: 'DNS suffix of services.',
  }),
  rootNamespace: row({
    flag: 'root-namespace',
    env: 'ROOT_NAMESPACE',
    parse: name,
    default: 'istio-system',
    documentation: 'Policies in this namespace apply to the whole mesh.',
  }),
  trustedNodeAccounts: row({
    flag: 'trusted-node-accounts',
    env: 'CA_TRUSTED_NODE_ACCOUNTS',
    parse: commaSeparated(ACCOUNT, 'accounts <namespace>/<service account>, separated by commas'),
    default: 'istio-system/ambit-agent,istio-system/ztunnel',
    documentation: 'Accounts of agents: they may ask for the identities of pods on their node.',
  }),
  defaultLifetimeMs: row({
    flag: 'default-cert-ttl',
    env: 'DEFAULT_WORKLOAD_CERT_TTL',
    parse: duration(10_000),
    default: '24h',
    documentation: 'Lifetime of workload certificates whose request names none.',
  }),
  maxLifetimeMs: row({
    flag: 'max-cert-ttl',
    env: 'MAX_WORKLOAD_CERT_TTL',
    parse: duration(10_000),
    default: '90d',
    documentation: 'Longest lifetime a request may name. An old root is trusted this long after it stopped signing.',
  }),
  rootLifetimeMs: row({
    flag: 'root-ttl',
    env: 'CITADEL_SELF_SIGNED_CA_CERT_TTL',
    parse: duration(60_000),
    default: '3650d',
    documentation: 'Lifetime of a root made by this process.',
  }),
  rootDistributionMs: row({
    flag: 'root-distribution-time',
    env: 'AMBIT_ROOT_DISTRIBUTION_TIME',
    parse: duration(1000),
    default: '45d',
    documentation:
      'How long a new root is in every bundle before it signs: at least half of the longest lifetime, because agents learn of it when they renew.',
  }),
  certificateBurst: row({
    flag: 'cert-rate-burst',
    env: 'AMBIT_CERT_RATE_BURST',
    parse: integer(1, 100_000),
    default: '200',
    documentation: 'Certificates one node may ask for at once.',
  }),
  certificatesPerSecond: row({
    flag: 'cert-rate',
    env: 'AMBIT_CERT_RATE',
    parse: integer(1, 100_000),
    default: '20',
    documentation: 'Certificates per second one node may ask for in the long run.',
  }),
  terminationGraceMs: row({
    flag: 'termination-grace',
    env: 'AMBIT_TERMINATION_GRACE',
    parse: duration(1),
    default: '5s',
    documentation: 'How long calls in progress may take after SIGTERM.',
  }),
} as const;

type Value<S> = S extends Setting<infer T> ? T : never;
export type ControlConfig = { readonly [K in keyof typeof CONTROL_SETTINGS]: Value<(typeof CONTROL_SETTINGS)[K]> };

/**
 * Reads flags (`--flag value` or `--flag=value`) over the environment. Throws CONFIGURATION with one line per mistake.
 */
export function readControlConfig(args: readonly string[], env: NodeJS.ProcessEnv): ControlConfig {
  const mistakes: string[] = [];
  const flags = readFlags(args, mistakes);
  const result: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries<Setting<unknown>>(CONTROL_SETTINGS)) {
    const given = flags.get(setting.flag);
    const text = given ?? env[setting.env] ?? setting.default;
    const origin = given === undefined ? setting.env : `--${setting.flag}`;
    if (text === undefined) {
      mistakes.push(`--${setting.flag} (or ${setting.env}) must be given: ${setting.documentation}`);
      continue;
    }
    const parsed = setting.parse(text);
    if (parsed.ok) result[key] = parsed.value;
    else mistakes.push(`${origin} must be ${parsed.expected}, not ${JSON.stringify(text.slice(0, 100))}`);
  }
  if (mistakes.length > 0) throw new AmbitError('CONFIGURATION', mistakes.join('\n'));
  // Every key of the table was parsed by its own row; a missing one is a mistake above.
  return result as ControlConfig;
}

function readFlags(args: readonly string[], mistakes: string[]): Map<string, string> {
  const known = new Set(Object.values(CONTROL_SETTINGS).map((setting) => setting.flag));
  const flags = new Map<string, string>();
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? '';
    const match = /^--([a-z-]+)(?:=(.*))?$/s.exec(arg);
    const flag = match?.[1];
    if (flag === undefined || !known.has(flag)) {
      mistakes.push(`${JSON.stringify(arg.slice(0, 100))} is not an option`);
      continue;
    }
    const value = match?.[2] ?? args[++index];
    if (value === undefined) mistakes.push(`--${flag} needs a value`);
    else flags.set(flag, value);
  }
  return flags;
}

/** One line per option. */
export function controlHelp(): string {
  const lines = Object.values(CONTROL_SETTINGS).map((setting) => {
    const fallback = setting.default === undefined ? 'required' : `default ${setting.default || '(none)'}`;
    return `  --${setting.flag} (${setting.env}; ${fallback})\n      ${setting.documentation}`;
  });
  return `Ambit control plane: discovery, policy and CA from a folder of YAML.\n\nOptions:\n${lines.join('\n')}\n\nSignals:\n  SIGTERM, SIGINT  stop in order\n  SIGUSR2          begin a rotation of the root of the CA\n`;
}
