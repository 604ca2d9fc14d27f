/**
 * What discovery costs by itself, without clients: objects of a cluster of a given size are decoded, built and kept, then
 * one pod, one service and the whole mesh change.
 *
 *   node bench/control-build.ts [pods]      default 10000; ten pods per service, a hundred per node
 *
 * Prints one JSON object: times in milliseconds, those of slices of processor time
 * of the thread with its share of garbage collection (the clock of a kernel may count it in steps of 4); memory in MiB (resident, after a collection; run with --expose-gc).
 */
import { MeshBuilder } from '../control/discovery/mesh-builder.ts';
import type { Resource, ResourceUpdate } from '../control/discovery/resource.ts';
import { type ObjectChange, ObjectStore } from '../control/model/object-store.ts';
import { decodeObject, identify, type MeshObject } from '../control/objects/object.ts';

const pods = Number(process.argv[2] ?? 10_000);
const PODS_PER_SERVICE = 10;
const PODS_PER_NODE = 100;
const SERVICES_PER_NAMESPACE = 20;
const CHUNK = 500;

const settings = {
  clusterId: 'Kubernetes',
  network: '',
  trustDomain: 'cluster.local',
  clusterDomain: 'cluster.local',
  rootNamespace: 'istio-system',
};
const store = new ObjectStore();
const builder = new MeshBuilder(store, settings);
const resources = new Map<string, Resource>();

function objectOf(value: unknown): MeshObject {
  const identity = identify(value);
  if (identity.kind !== 'known') throw new Error('not an object');
  const decoded = decodeObject(identity.row, value);
  if (!decoded.ok) throw new Error(JSON.stringify(decoded.problems[0]));
  return decoded.value;
}

function placeOf(index: number): { namespace: string; app: string; node: string; ip: string } {
  const service = Math.floor(index / PODS_PER_SERVICE);
  return {
    namespace: `team-${Math.floor(service / SERVICES_PER_NAMESPACE)}`,
    app: `app-${service}`,
    node: `node-${Math.floor((index * 7919) / PODS_PER_NODE) % Math.max(1, Math.floor(pods / PODS_PER_NODE))}`,
    ip: `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`,
  };
}

function podOf(index: number, ready = true): MeshObject {
  const { namespace, app, node, ip } = placeOf(index);
  const hash = `7d9f${(index % 7919).toString(16)}`;
  return objectOf({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `${app}-${hash}-${index.toString(36)}`,
      namespace,
      uid: `00000000-0000-4000-8000-${index.toString(16).padStart(12, '0')}`,
      resourceVersion: String(1000 + index),
      creationTimestamp: '2026-01-01T00:00:00Z',
      labels: { app, version: 'v1', 'pod-template-hash': hash },
      annotations: { 'ambient.istio.io/redirection': 'enabled' },
      ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: `${app}-${hash}`, controller: true }],
    },
    spec: {
      nodeName: node,
      serviceAccountName: app,
      containers: [{ name: 'main', ports: [{ name: 'http', containerPort: 8080 }] }],
    },
    status: {
      phase: 'Running',
      podIP: ip,
      podIPs: [{ ip }],
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
    },
  });
}

function serviceOf(index: number): MeshObject {
  const { namespace, app } = placeOf(index * PODS_PER_SERVICE);
  return objectOf({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: app, namespace, creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: {
      clusterIP: `10.${96 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`,
      selector: { app },
      ports: [
        { name: 'http', port: 80, targetPort: 'http' },
        { name: 'metrics', port: 9090 },
      ],
    },
  });
}

function* clusterObjects(): Generator<MeshObject> {
  for (let index = 0; index < pods / PODS_PER_NODE; index++) {
    yield objectOf({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: {
        name: `node-${index}`,
        labels: { 'topology.kubernetes.io/region': 'r', 'topology.kubernetes.io/zone': `z${index % 3}` },
      },
    });
  }
  for (let index = 0; index < pods / PODS_PER_SERVICE; index++) yield serviceOf(index);
  for (let index = 0; index < pods; index++) yield podOf(index);
}

/** Applies changes slice by slice. Times of slices in milliseconds, ascending. */
function run(changes: readonly ObjectChange[]): { totalMs: number; wallMs: number; slices: number[]; changed: number } {
  const slices: number[] = [];
  let changed = 0;
  let totalMs = 0;
  const began = performance.now();
  const work = builder.updateInSlices(changes);
  for (;;) {
    const before = process.threadCpuUsage();
    const slice = work.next();
    const { user, system } = process.threadCpuUsage(before);
    const tookMs = (user + system) / 1000;
    totalMs += tookMs;
    slices.push(tookMs);
    if (slice.done === true) break;
    changed += keep(slice.value);
  }
  return { totalMs, wallMs: performance.now() - began, slices: slices.sort((a, b) => a - b), changed };
}

function keep(updates: readonly ResourceUpdate[]): number {
  let changed = 0;
  for (const { name, resource } of updates) {
    if (resources.get(name)?.version === resource?.version) continue;
    changed++;
    if (resource === undefined) resources.delete(name);
    else resources.set(name, resource);
  }
  return changed;
}

function memoryMiB(): number {
  globalThis.gc?.();
  return Math.round(process.memoryUsage().rss / 2 ** 20);
}

function summary(result: ReturnType<typeof run>): object {
  const { totalMs, wallMs, slices, changed } = result;
  const at = (share: number): number =>
    round(slices[Math.min(slices.length - 1, Math.floor(slices.length * share))] ?? 0);
  return {
    cpuMs: round(totalMs),
    wallMs: round(wallMs),
    changed,
    slices: slices.length,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: at(1),
  };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function apply(...upserted: MeshObject[]): ObjectChange[] {
  return store.apply({ upserted, removed: [] });
}

const emptyMiB = memoryMiB();
let decodeMs = 0;
const changes: ObjectChange[] = [];
let batch: MeshObject[] = [];
for (const object of clusterObjects()) {
  batch.push(object);
  if (batch.length < CHUNK) continue;
  const began = performance.now();
  changes.push(...apply(...batch));
  decodeMs += performance.now() - began;
  batch = [];
}
changes.push(...apply(...batch));
const objectsMiB = memoryMiB();
const build = run(changes);
changes.length = 0;
const builtMiB = memoryMiB();
let bytes = 0;
for (const resource of resources.values()) bytes += resource.bytes.length;
const strict = objectOf({
  apiVersion: 'security.istio.io/v1',
  kind: 'PeerAuthentication',
  metadata: { name: 'mesh', namespace: 'istio-system' },
  spec: { mtls: { mode: 'STRICT' } },
});
const results = {
  pods,
  services: pods / PODS_PER_SERVICE,
  resources: resources.size,
  encodedMiB: round(bytes / 2 ** 20),
  memoryMiB: { empty: emptyMiB, withObjects: objectsMiB, withResources: builtMiB },
  applyMs: round(decodeMs),
  build: summary(build),
  onePod: summary(run(apply(podOf(0, false)))),
  oneService: summary(run(apply(serviceOf(1)))),
  wholeMesh: summary(run(apply(strict))),
  afterMiB: memoryMiB(),
};
process.stdout.write(`${JSON.stringify(results, undefined, 2)}\n`);
