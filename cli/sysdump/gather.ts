/**
 * Everything a sysdump consists of, file by file. Each part is gathered for itself: what cannot be had is told and the
 * others go on. Secrets are never asked for.
 */

import { ADMIN_PORT, CONTROL_STATUS_PORT, METRICS_PORT } from '../../core/ports.ts';
import { AGENT_VERSION } from '../../core/version.ts';
import { isNotFound } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import { type KubeObject, kubeObject } from '../../kube/object.ts';
import { fetchPodPage } from '../../kube/pod-http.ts';
import { objectPath, RESOURCES, type Resource, resourceName } from '../../kube/resource.ts';
import { eachOf, pagesOf } from '../agents.ts';
import { checksFor } from '../check/all-checks.ts';
import { labelOf, listAt, numberAt, textAt } from '../check/fields.ts';
import { runChecks } from '../check/run.ts';
import { CheckWorld } from '../check/world.ts';
import { readStatus } from '../status/read-status.ts';
import { foreignObject, ownObject, redact } from './redact.ts';

export interface GatherOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  /** Lines of each log, from its end. */
  readonly logLines: number;
  /** Takes a file; its text holds no secret. */
  readonly add: (name: string, text: string) => Promise<void>;
  /** Told of what could not be had. */
  readonly missing: (what: string) => void;
}

const LOG_BYTES = 4 * 1024 * 1024;
const PAGE_TIMEOUT_MS = 15_000;
const AT_ONCE = 4;
/** Objects of one kind that are kept. */
const MAX_OBJECTS = 5_000;

/** Kinds of the mesh, whole. */
const OWN_KINDS: readonly Resource[] = [
  RESOURCES.AuthorizationPolicy,
  RESOURCES.PeerAuthentication,
  RESOURCES.ServiceEntry,
  RESOURCES.WorkloadEntry,
  RESOURCES.Gateway,
  RESOURCES.GatewayClass,
  RESOURCES.NetworkPolicy,
  RESOURCES.Service,
  RESOURCES.Namespace,
];
/** Kinds of which only what the mesh looks at is kept. */
const FOREIGN_KINDS: readonly Resource[] = [RESOURCES.Pod, RESOURCES.Node];
/** Kinds in the namespace of the mesh, whole. */
const MESH_KINDS: readonly Resource[] = [
  RESOURCES.Deployment,
  RESOURCES.DaemonSet,
  RESOURCES.Lease,
  RESOURCES.Role,
  RESOURCES.RoleBinding,
];
const CONFIG_MAPS: ReadonlySet<string> = new Set(['istio', 'istio-ca-root-cert', 'istio-ca-crl', 'ambit-control']);
const CONTROL_VIEWS = ['clients', 'leader', 'source', 'problems', 'conditions', 'ca', 'resources'];
const AGENT_PAGES = ['node?probe', 'connections', 'config_dump'];

/** Never rejects but for what `add` rejects with. */
export async function gather(options: GatherOptions): Promise<void> {
  const { client, namespace } = options;
  const world = new CheckWorld({ client, pages: pagesOf(client), namespace, node: undefined, nowMs: Date.now });
  const parts: readonly (readonly [name: string, read: () => Promise<unknown>])[] = [
    [
      'version.json',
      async () => ({
        ambit: AGENT_VERSION,
        node: process.version,
        kubernetes: await client.request({ method: 'GET', path: '/version' }),
      }),
    ],
    ['status.json', () => readStatus(world)],
    ['checks.json', () => runChecks(checksFor('installed'), world)],
    ['analysis.json', () => world.findings()],
    ['proxy-status.json', () => world.proxyStatus()],
    ['events.json', () => readEvents(options)],
    ['config-maps.json', () => readConfigMaps(options)],
    ...OWN_KINDS.map((kind) => [fileOf(kind), () => readKind(options, kind, '', ownObject)] as const),
    ...FOREIGN_KINDS.map((kind) => [fileOf(kind), () => readKind(options, kind, '', foreignObject)] as const),
    ...MESH_KINDS.map((kind) => [fileOf(kind), () => readKind(options, kind, namespace, ownObject)] as const),
    ['objects/webhooks.json', () => readLabelled(options, RESOURCES.ValidatingWebhookConfiguration)],
  ];
  await eachOf(parts, AT_ONCE, async ([name, read]) => {
    await keep(options, name, async () => `${JSON.stringify(await read(), undefined, 2)}\n`);
  });
  await eachOf(await meshPods(options), AT_ONCE, (pod) => gatherPod(options, pod));
}

async function gatherPod(options: GatherOptions, pod: KubeObject): Promise<void> {
  const { client, namespace } = options;
  const { name } = pod.metadata;
  const agent = labelOf(pod, 'app.kubernetes.io/name') === 'ambit-agent';
  const folder = agent ? `agents/${textAt(pod, 'spec', 'nodeName')}-${name}` : `control/${name}`;
  await keep(options, `${folder}/log.txt`, () => readLog(options, name, false));
  const restarted = listAt(pod, 'status', 'containerStatuses').some((one) => numberAt(one, 'restartCount') > 0);
  if (restarted) await keep(options, `${folder}/previous-log.txt`, () => readLog(options, name, true));
  const page = async (port: number, path: string): Promise<string> => {
    const { status, text } = await fetchPodPage(client, { namespace, pod: name, port }, path, PAGE_TIMEOUT_MS);
    if (status !== 200) throw new Error(`status ${status}: ${text.slice(0, 200)}`);
    return text;
  };
  const pages: readonly (readonly [file: string, port: number, path: string])[] = agent
    ? [
        ...AGENT_PAGES.map((path) => [`${path.replace(/\?.*/, '')}.json`, ADMIN_PORT, `/${path}`] as const),
        ['metrics.txt', METRICS_PORT, '/metrics'],
      ]
    : [
        ...CONTROL_VIEWS.map((view) => [`${view}.json`, CONTROL_STATUS_PORT, `/debug/${view}`] as const),
        ['metrics.txt', CONTROL_STATUS_PORT, '/metrics'],
      ];
  for (const [file, port, path] of pages) await keep(options, `${folder}/${file}`, () => page(port, path));
}

/** One file, or the reason why there is none. */
async function keep({ add, missing }: GatherOptions, name: string, read: () => Promise<string>): Promise<void> {
  let text: string;
  try {
    text = await read();
  } catch (thrown) {
    missing(`${name}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
    return;
  }
  await add(name, redact(text));
}

async function meshPods({ client, namespace, missing }: GatherOptions): Promise<KubeObject[]> {
  try {
    const labelSelector = 'app.kubernetes.io/name in (ambit-agent, ambit-control)';
    const { items } = await client.list(RESOURCES.Pod, { namespace, labelSelector });
    return items.flatMap((item) => kubeObject(item) ?? []);
  } catch (thrown) {
    missing(`pods of the mesh: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
    return [];
  }
}

async function readLog(
  { client, namespace, logLines }: GatherOptions,
  pod: string,
  previous: boolean,
): Promise<string> {
  const query = {
    tailLines: String(logLines),
    limitBytes: String(LOG_BYTES),
    timestamps: 'true',
    ...(previous ? { previous: 'true' } : {}),
  };
  const path = objectPath(RESOURCES.Pod, namespace, pod, 'log');
  return await client.requestText({ method: 'GET', path, query, accept: '*/*' });
}

async function readKind(
  { client, missing }: GatherOptions,
  kind: Resource,
  namespace: string,
  reduce: (value: unknown) => unknown,
): Promise<unknown> {
  try {
    const { items } = await client.list(kind, { namespace });
    if (items.length > MAX_OBJECTS)
      missing(`${resourceName(kind)}: ${MAX_OBJECTS} of ${items.length} are in the archive`);
    return items.slice(0, MAX_OBJECTS).map(reduce);
  } catch (thrown) {
    if (isNotFound(thrown)) return [];
    throw thrown;
  }
}

async function readLabelled({ client }: GatherOptions, kind: Resource): Promise<unknown> {
  const { items } = await client.list(kind, { labelSelector: 'app.kubernetes.io/part-of=ambit' });
  return items.map(ownObject);
}

/** By name: a ConfigMap may hold anything. */
async function readConfigMaps({ client, namespace }: GatherOptions): Promise<unknown> {
  const { items } = await client.list(RESOURCES.ConfigMap, { namespace });
  return items.filter((item) => CONFIG_MAPS.has(textAt(item, 'metadata', 'name'))).map(ownObject);
}

/** Of the namespace of the mesh, and those that tell of enrolment elsewhere. */
async function readEvents({ client, namespace }: GatherOptions): Promise<unknown> {
  const { items } = await client.list(RESOURCES.Event, {});
  return items
    .filter((item) => textAt(item, 'metadata', 'namespace') === namespace || textAt(item, 'reason').startsWith('Ambit'))
    .slice(-MAX_OBJECTS)
    .map((item) => ownObject(item));
}

function fileOf(kind: Resource): string {
  return `objects/${resourceName(kind)}.json`;
}
