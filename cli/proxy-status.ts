/**
 * `ambit proxy-status`: every agent (and whatever else takes discovery), to which replica it is connected, whether it has
 * all there is, and what it refused last. Replicas are asked through the API server (`pods/portforward`), so that the
 * user's own kubeconfig and its rights are all that is needed.
 */
import { Command } from 'commander';
import { boolean, decode, integer, list, object, optional, string, withDefault } from '../core/decoder.ts';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { CONTROL_STATUS_PORT } from '../core/ports.ts';
import { KubeClient } from '../kube/client.ts';
import { kubeObject } from '../kube/object.ts';
import { getPodPage } from '../kube/pod-http.ts';
import { RESOURCES } from '../kube/resource.ts';
import { type ClusterOptions, clusterOptions, userAgent } from './cluster.ts';
import { formatDuration, type OutputFormat, outputOption, printResult, renderTable } from './output.ts';

const REPLICA_SELECTOR = 'app.kubernetes.io/name=ambit-control';
const TIMEOUT_MS = 10_000;

interface ProxyStatusOptions extends ClusterOptions {
  readonly output: OutputFormat;
  readonly control?: string;
}

/** One client of one replica. */
export interface ProxyStatusRow {
  /** `<pod>.<namespace>`, else its account. */
  readonly proxy: string;
  readonly node: string;
  readonly replica: string;
  /** ISO 8601. */
  readonly connectedSince: string;
  readonly synced: boolean;
  /** Resources that were not sent or not acknowledged yet. */
  readonly behind: number;
  /** How long that has been so, milliseconds. */
  readonly behindMs: number;
  readonly lastNack: { readonly at: string; readonly type: string; readonly reason: string } | undefined;
}

export function proxyStatusCommand(): Command {
  const command = new Command('proxy-status').description(
    'Each agent: which replica it is connected to, in sync or how far behind, what it refused',
  );
  return clusterOptions(command)
    .option('--control <host:port>', 'ask the status port of one control plane, without a cluster')
    .addOption(outputOption())
    .action(async (options: ProxyStatusOptions) => {
      const { rows, failures } = await readProxyStatus(options);
      printResult(options.output, rows, renderProxyStatus);
      for (const failure of failures) process.stderr.write(`ambit: ${failure.message}\n`);
      if (failures.length > 0) process.exitCode = 1;
    });
}

interface ReplicaPage {
  readonly replica: string;
  get(): Promise<unknown>;
}

async function readProxyStatus(
  options: ProxyStatusOptions,
): Promise<{ rows: ProxyStatusRow[]; failures: AmbitError[] }> {
  const { control } = options;
  if (control !== undefined) return await askAll([{ replica: control, get: () => getDirectly(control) }]);
  const { kubeconfig, context, namespace } = options;
  const client = KubeClient.open({ kubeconfig, context, userAgent });
  try {
    const { items } = await client.list(RESOURCES.Pod, { namespace, labelSelector: REPLICA_SELECTOR });
    const pods = items.flatMap((item) => kubeObject(item)?.metadata.name ?? []);
    if (pods.length === 0) {
      throw new AmbitError(
        'ADMIN_UNREACHABLE',
        `no control plane runs in the namespace ${namespace} (-n names another)`,
      );
    }
    const pages = pods.map((pod): ReplicaPage => {
      const port = { namespace, pod, port: CONTROL_STATUS_PORT };
      return { replica: pod, get: () => getPodPage(client, port, '/debug/clients', TIMEOUT_MS) };
    });
    return await askAll(pages);
  } finally {
    client.close();
  }
}

/** Replicas that answer count; those that do not are told. Throws when none does. */
async function askAll(pages: readonly ReplicaPage[]): Promise<{ rows: ProxyStatusRow[]; failures: AmbitError[] }> {
  const rows: ProxyStatusRow[] = [];
  const failures: AmbitError[] = [];
  const answers = await Promise.allSettled(pages.map(async (page) => rowsOf(page.replica, await page.get())));
  for (const answer of answers) {
    if (answer.status === 'fulfilled') rows.push(...answer.value);
    else failures.push(toAmbitError(answer.reason, 'ADMIN_UNREACHABLE'));
  }
  const [first] = failures;
  if (first !== undefined && failures.length === pages.length) throw first;
  rows.sort((a, b) => (`${a.node} ${a.proxy}` < `${b.node} ${b.proxy}` ? -1 : 1));
  return { rows, failures };
}

async function getDirectly(address: string): Promise<unknown> {
  try {
    const response = await fetch(`http://${address}/debug/clients`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    return await response.json();
  } catch (cause) {
    throw new AmbitError('ADMIN_UNREACHABLE', `no control plane answers on ${address}`, { cause });
  }
}

const clients = list(
  object(
    {
      caller: withDefault(string, ''),
      node: withDefault(string, ''),
      pod: withDefault(string, ''),
      connectedSince: withDefault(string, ''),
      types: withDefault(
        list(
          object(
            {
              type: string,
              synced: withDefault(boolean, false),
              behind: withDefault(integer(0, Number.MAX_SAFE_INTEGER), 0),
              behindMs: withDefault((value: unknown) => (typeof value === 'number' ? value : 0), 0),
              lastNack: optional(object({ at: withDefault(string, ''), reason: withDefault(string, '') }, 'ignore')),
            },
            'ignore',
          ),
        ),
        [],
      ),
    },
    'ignore',
  ),
);

/** What a replica says of its clients (`/debug/clients`). Throws ADMIN_UNREACHABLE when it says something else. */
export function rowsOf(replica: string, page: unknown): ProxyStatusRow[] {
  const decoded = decode(clients, page);
  if (!decoded.ok) throw new AmbitError('ADMIN_UNREACHABLE', `replica ${replica} gave no list of clients`);
  return decoded.value.map(({ caller, node, pod, connectedSince, types }) => {
    const [namespace = ''] = caller.split('/');
    const nacks = types.flatMap(({ type, lastNack }) =>
      lastNack === undefined ? [] : [{ ...lastNack, type: type.slice(type.lastIndexOf('/') + 1) }],
    );
    return {
      proxy: pod === '' ? caller : `${pod}.${namespace}`,
      node,
      replica,
      connectedSince,
      synced: types.length > 0 && types.every(({ synced }) => synced),
      behind: types.reduce((sum, type) => sum + type.behind, 0),
      behindMs: Math.max(0, ...types.map((type) => type.behindMs)),
      lastNack: nacks.toSorted((a, b) => (a.at < b.at ? 1 : -1))[0],
    };
  });
}

export function renderProxyStatus(rows: readonly ProxyStatusRow[]): string {
  if (rows.length === 0) return 'no agent is connected';
  const lines = rows.map((row) => [
    row.node === '' ? '-' : row.node,
    row.proxy,
    row.replica,
    formatDuration(Math.max(0, Date.now() - Date.parse(row.connectedSince))),
    row.synced ? 'in sync' : `${row.behind} behind for ${formatDuration(row.behindMs)}`,
    row.lastNack === undefined ? '-' : `${row.lastNack.type}: ${row.lastNack.reason.slice(0, 100)}`,
  ]);
  return renderTable(['NODE', 'PROXY', 'REPLICA', 'CONNECTED', 'STATE', 'LAST REFUSAL'], lines);
}
