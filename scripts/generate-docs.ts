/**
 * Writes the reference pages that are tables of the code: docs/ERRORS.md, LIMITS.md, CONFIGURATION.md, METRICS.md, ANALYSIS.md,
 * CHECKS.md. A test compares the pages with what this file makes, so that neither can change alone.
 *
 *     node scripts/generate-docs.ts
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ADMIN_LIMITS } from '../agent/admin/http.ts';
import { FAMILIES } from '../agent/admin/metrics.ts';
import { SETTINGS } from '../agent/config.ts';
import { DRY_RUN_LINES } from '../agent/dataplane/dry-run-report.ts';
import { DESCRIPTORS_PER_CONNECTION, FREE_FOR_ALL } from '../agent/dataplane/fair-share.ts';
import { MAX_TRAFFIC_SERIES } from '../agent/dataplane/traffic-metrics.ts';
import { ENROL_LIMITS_TABLE } from '../agent/enrol/limits.ts';
import type { Setting as AgentSetting } from '../agent/setting.ts';
import { MAX_LOCAL_CONFIG_BYTES } from '../agent/state/local-config.ts';
import { ALL_CHECKS } from '../cli/check/all-checks.ts';
import { CHECK_GROUPS, type Check } from '../cli/check/check.ts';
import { hintOf } from '../cli/check/run.ts';
import { CONTROL_SETTINGS, type Setting as ControlSetting } from '../control/config.ts';
import { CONTROL_LIMITS_TABLE } from '../control/limits.ts';
import { ControlMetrics } from '../control/metrics.ts';
import { FINDING_TABLE, type FindingRow } from '../control/validation/codes.ts';
import { MAX_WIRE_BYTES } from '../core/enrolment/cni-wire.ts';
import { ERROR_TABLE, type ErrorRow } from '../core/errors.ts';
import {
  MAX_CERTIFICATE_MESSAGE_BYTES,
  MAX_DISCOVERY_REQUEST_BYTES,
  MAX_DISCOVERY_RESPONSE_BYTES,
} from '../core/grpc.ts';
import { HBONE_LIMITS, HBONE_LIMITS_TABLE } from '../hbone/limits.ts';
import { MAX_CERTIFICATE_BYTES, MAX_CHAIN_LENGTH } from '../hbone/peer-identity.ts';
import { KUBE_LIMITS_TABLE } from '../kube/limits.ts';
import { HBONE_HTTP2_LIMITS, HTTP2_LIMITS_TABLE, type RateLimit } from '../reactor/http2/limits.ts';

const NOTICE = '<!-- Generated from the code by scripts/generate-docs.ts; edit the table there, then run it again. -->';

/** Text of each page by its path. */
export async function generatePages(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    ['docs/ERRORS.md', errorsPage()],
    ['docs/LIMITS.md', limitsPage()],
    ['docs/CONFIGURATION.md', configurationPage()],
    ['docs/METRICS.md', await metricsPage()],
    ['docs/ANALYSIS.md', analysisPage()],
    ['docs/CHECKS.md', checksPage()],
  ]);
}

function errorsPage(): string {
  const rows = Object.entries<ErrorRow>(ERROR_TABLE).map(([code, row]) => [
    code,
    row.fault,
    row.retry ? 'yes' : 'no',
    String(row.httpStatus ?? ''),
    row.flag,
    row.level,
    row.hint,
  ]);
  return page(
    'Errors',
    'Every failure has one of these codes, in logs (`reason`), metrics (`reason` of `ambit_connections_refused_total`) and answers. ' +
      '*Fault*: who has to change something. *Retry*: the same action may succeed later by itself. *Status*: what a tunnel peer is ' +
      "answered. *Flag*: `response_flags` of Istio's metrics.",
    table(['code', 'fault', 'retry', 'status', 'flag', 'level', 'what to do'], rows),
  );
}

function analysisPage(): string {
  const rows = Object.entries<FindingRow>(FINDING_TABLE)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, { severity, title, effect, fix, refused }]) => [
      key,
      severity,
      refused ? 'refused' : severity === 'info' ? '' : 'warning',
      title,
      effect,
      fix,
    ]);
  return page(
    'Findings of ambit analyze and of the webhook',
    '`ambit analyze` says them about files or a cluster; it ends with 2 after an error, with 1 after a warning, else with 0. ' +
      '*Webhook*: what `kubectl apply` answers for AuthorizationPolicy, PeerAuthentication, ServiceEntry and WorkloadEntry. ' +
      'A refused object never reaches the cluster; a warning is printed beside the success. Codes are stable.',
    table(['code', 'severity', 'webhook', 'finding', 'what happens at run time', 'how to correct it'], rows),
  );
}

const MOMENTS: Readonly<Record<Check['when'], string>> = {
  pre: 'before an installation (`ambit check --pre`)',
  installed: 'after an installation',
  always: 'always',
};

function checksPage(): string {
  const checks = CHECK_GROUPS.flatMap((group) => ALL_CHECKS.filter((check) => check.group === group));
  const rows = checks.map(({ id, group, when }) => [
    `[${id}](${hintOf(id).replace('docs/CHECKS.md', '')})`,
    group,
    MOMENTS[when],
  ]);
  const sections = checks.map(({ id, about, group, when }) =>
    [`## ${id}`, about, `Group: ${group}. Run: ${MOMENTS[when]}.`].join('\n\n'),
  );
  return page(
    'Checks of ambit check',
    'What `ambit check` looks at. Each line of its report begins with `√` (as it should be), `!` (worth a look), `×` (something does not work) or ' +
      '`-` (could not be looked at, with the reason) and is followed by the next thing to do. It changes nothing, needs no more rights than ' +
      'reading and `pods/portforward` in the namespace of the mesh, and ends with 2 after a `×`, with 1 after a `!` or `-`, else with 0. ' +
      '`-o json` gives the same as a list; `--node` looks at one node. Ids are stable.',
    table(['check', 'group', 'when'], rows),
    ...sections,
  );
}

function limitsPage(): string {
  const heading = ['limit', 'value', 'what is limited', 'at the limit'];
  const http2 = HTTP2_LIMITS_TABLE.map((row) => [
    row.key,
    formatLimit(HBONE_HTTP2_LIMITS[row.key], row.unit),
    row.meaning,
    row.atTheLimit,
  ]);
  const hbone = HBONE_LIMITS_TABLE.map((row) => [
    row.key,
    formatLimit(HBONE_LIMITS[row.key], row.unit),
    row.meaning,
    row.atTheLimit,
  ]);
  const {
    maxHeaderBytes,
    maxHeaders,
    headersTimeoutMs,
    requestTimeoutMs,
    keepAliveTimeoutMs,
    silenceTimeoutMs,
    maxConnections,
  } = ADMIN_LIMITS;
  const admin = [
    [
      'maxConnections',
      `${maxConnections} connections`,
      'connections to one admin, metrics or readiness port',
      'the one that has been idle longest is closed',
    ],
    ['maxHeaderBytes', formatBytes(maxHeaderBytes), 'request line and headers', '431, closed'],
    ['maxHeaders', `${maxHeaders} fields`, 'header fields of a request', 'further ones are not read'],
    ['headersTimeoutMs', formatDuration(headersTimeoutMs), 'time to send the headers', '408, closed'],
    ['requestTimeoutMs', formatDuration(requestTimeoutMs), 'time to send a request', '408, closed'],
    ['keepAliveTimeoutMs', formatDuration(keepAliveTimeoutMs), 'silence between requests', 'closed'],
    [
      'silenceTimeoutMs',
      formatDuration(silenceTimeoutMs),
      'time in which a client takes nothing of an answer',
      'closed',
    ],
  ];
  const others = [
    ['MAX_CHAIN_LENGTH', `${MAX_CHAIN_LENGTH} certificates`, 'certificate chain of a tunnel peer', 'PEER_IDENTITY'],
    ['MAX_CERTIFICATE_BYTES', formatBytes(MAX_CERTIFICATE_BYTES), 'one certificate of a tunnel peer', 'PEER_IDENTITY'],
    [
      'MAX_TRAFFIC_SERIES',
      `${MAX_TRAFFIC_SERIES} tuples`,
      'label tuples of traffic metrics per worker',
      'counted under a tuple that names only the reporter',
    ],
    [
      'DRY_RUN_LINES',
      formatLimit(DRY_RUN_LINES, 'lines'),
      'log lines about dry-run policies, per worker',
      'counted but not logged; the next line says how many were left out',
    ],
    [
      'FREE_FOR_ALL',
      `${FREE_FOR_ALL * 100} % of the descriptors of a worker`,
      `connections of all pods, ${DESCRIPTORS_PER_CONNECTION} descriptors each, that need not be shared out evenly (RLIMIT_NOFILE / workers; more than one pod)`,
      'FAIR_SHARE for pods that hold their part (descriptors / pods) or more; the others are served',
    ],
    ['MAX_LOCAL_CONFIG_BYTES', formatBytes(MAX_LOCAL_CONFIG_BYTES), 'local configuration file', 'CONFIGURATION'],
    [
      'MAX_WIRE_BYTES',
      formatBytes(MAX_WIRE_BYTES),
      "a message on the plugin's socket",
      'the call fails, the pod waits',
    ],
    [
      'MAX_DISCOVERY_RESPONSE_BYTES',
      formatBytes(MAX_DISCOVERY_RESPONSE_BYTES),
      'one message of the control plane',
      'the stream ends (XDS)',
    ],
    [
      'MAX_DISCOVERY_REQUEST_BYTES',
      formatBytes(MAX_DISCOVERY_REQUEST_BYTES),
      'one message of an agent',
      'the stream ends',
    ],
    [
      'MAX_CERTIFICATE_MESSAGE_BYTES',
      formatBytes(MAX_CERTIFICATE_MESSAGE_BYTES),
      'one message of the certificate service',
      'the call fails (CA)',
    ],
  ];
  return page(
    'Limits',
    'Every bound a peer, an operator or a neighbour can reach, and what happens there. Rates are token buckets: `burst` at once, then so many per second.',
    '## HTTP/2 sessions (port 15008 and tunnels to it)',
    table(heading, http2),
    '## Tunnels',
    table(heading, hbone),
    '## Admin, metrics and readiness ports',
    table(heading, admin),
    '## Control plane',
    table(
      heading,
      CONTROL_LIMITS_TABLE.map((row) => [row.name, row.value, row.meaning, row.atTheLimit]),
    ),
    '## Client of the Kubernetes API',
    table(
      heading,
      KUBE_LIMITS_TABLE.map((row) => [row.name, row.value, row.meaning, row.atTheLimit]),
    ),
    '## Enrolment',
    table(
      heading,
      ENROL_LIMITS_TABLE.map((row) => [row.name, row.value, row.meaning, row.atTheLimit]),
    ),
    '## Elsewhere',
    table(heading, others),
  );
}

/** Defaults that depend on the machine, in words. */
const COMPUTED_DEFAULTS: Readonly<Record<string, string>> = {
  nodeName: 'the host name',
  workers: 'a quarter of the cores, at least 1',
};

function configurationPage(): string {
  const agent = Object.entries<AgentSetting<unknown>>(SETTINGS).map(([key, setting]) => [
    setting.env.map(code).join(', '),
    COMPUTED_DEFAULTS[key] ?? formatDefault(setting.default(), setting.unit),
    setting.documentation + (setting.secret ? ' Secret: never shown.' : ''),
  ]);
  const control = Object.values<ControlSetting<unknown>>(CONTROL_SETTINGS).map((setting) => [
    code(`--${setting.flag}`),
    code(setting.env),
    setting.default === undefined ? '*must be given*' : formatDefault(setting.default),
    setting.documentation,
  ]);
  return page(
    'Configuration',
    'Mistakes are reported all at once, before anything starts.',
    '## Agent',
    'From the environment. Where two names are given, the first that is set wins. The flags of `ambit agent` (`--dedicated`, `--config`, `--identity-dir`, `--capture`) are shown by `ambit agent --help`.',
    table(['variable', 'default', 'meaning'], agent),
    '## Control plane',
    'From flags, else from the environment.',
    table(['flag', 'variable', 'default', 'meaning'], control),
  );
}

async function metricsPage(): Promise<string> {
  const labelSets = (labels: readonly string[]): string =>
    labels.length > 20 ? '*traffic labels*, below' : labels.map(code).join(', ');
  const agent = FAMILIES.map(({ name, type, help, labels }) => [
    code(type === 'counter' ? `${name}_total` : name),
    type,
    labelSets(labels),
    help,
  ]);
  const traffic = FAMILIES.find(({ labels }) => labels.length > 20)?.labels ?? [];
  const control = (await new ControlMetrics().registry.getMetricsAsJSON()).map(({ name, type, help }) => [
    code(name),
    String(type),
    help,
  ]);
  return page(
    'Metrics',
    "`istio_*` and `workload_manager_*` are Istio's families, with its names, labels and meanings; families marked *unstable* may change.",
    '## Agent, `:15020/metrics` (OpenMetrics)',
    table(['family', 'type', 'labels', 'meaning'], agent),
    '### Traffic labels',
    `In this order; a value that is not known is \`unknown\`; the last four appear when one side has a locality: ${traffic.map(code).join(', ')}.`,
    'Both directions are seen from the client: *received* are request bytes, *sent* are response bytes, for both reporters.',
    '## Control plane, `/metrics` of the status address',
    table(['family', 'type', 'meaning'], control),
  );
}

function page(title: string, ...parts: readonly string[]): string {
  return `${NOTICE}\n\n# ${title}\n\n${parts.join('\n\n')}\n`;
}

function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(heading), line(heading.map(() => '---')), ...rows.map(line)].join('\n');
}

function code(text: string): string {
  return `\`${text}\``;
}

function formatDefault(value: unknown, unit?: string): string {
  if (value === undefined) return '*unset*';
  if (value === '') return '*empty*';
  if (unit === 'duration' && typeof value === 'number') return code(formatDuration(value));
  const text = Array.isArray(value) ? value.join(',') : String(value);
  return unit === undefined || unit === 'duration' ? code(text) : `${code(text)} ${unit}`;
}

function formatLimit(value: number | RateLimit, unit: string): string {
  if (typeof value === 'object') return `${value.burst} ${unit}, then ${value.perSecond}/s`;
  if (unit === 'bytes') return formatBytes(value);
  return unit === 'ms' ? formatDuration(value) : `${value} ${unit}`;
}

function formatBytes(value: number): string {
  if (value % (1 << 20) === 0) return `${value >> 20} MiB`;
  return value % 1024 === 0 ? `${value / 1024} KiB` : `${value} bytes`;
}

/** In the form the settings accept. */
function formatDuration(milliseconds: number): string {
  const units: readonly (readonly [string, number])[] = [
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
  ];
  const [unit, size] = units.find(([, size]) => milliseconds > 0 && milliseconds % size === 0) ?? ['ms', 1];
  return `${milliseconds / size}${unit}`;
}

if (import.meta.main) {
  for (const [path, text] of await generatePages()) {
    writeFileSync(join(import.meta.dirname, '..', path), text);
    process.stdout.write(`${path}\n`);
  }
}
