/** What a pod costs in memory: 100,000 of them must fit beside everything else (docs/decisions/0060, figures). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ObjectStore } from '../../../control/model/object-store.ts';
import { decodeObject, KIND_TABLE, type MeshObject, objectKey } from '../../../control/objects/object.ts';

const PODS = 10_000;
/** Measured: 670. */
const MAX_BYTES_PER_POD = 900;

/** A pod of a Deployment with ten replicas, with what the API server sends beside what is read. */
function wirePod(index: number): unknown {
  const deployment = `app-${Math.floor(index / 10)}`;
  const namespace = `team-${Math.floor(index / 200)}`;
  const ip = `10.1.${index >> 8}.${index & 255}`;
  return {
    metadata: {
      name: `${deployment}-7d9c5b6f4-${index.toString(36)}`,
      namespace,
      uid: `4e1f3c1e-6d0b-4a53-9c62-${index.toString(16).padStart(12, '0')}`,
      resourceVersion: String(1_000_000 + index),
      creationTimestamp: '2026-01-01T00:00:00Z',
      labels: {
        app: deployment,
        'app.kubernetes.io/name': deployment,
        'pod-template-hash': '7d9c5b6f4',
        tier: 'backend',
      },
      annotations: { 'ambient.istio.io/redirection': 'enabled', 'example.com/notes': 'x'.repeat(1000) },
      ownerReferences: [{ kind: 'ReplicaSet', name: `${deployment}-7d9c5b6f4`, controller: true }],
      managedFields: [{ manager: 'kubelet', fieldsV1: { text: 'f:'.repeat(1000) } }],
    },
    spec: {
      nodeName: `node-${index % 100}`,
      serviceAccountName: deployment,
      containers: [
        { name: 'c', image: 'i', ports: [{ name: 'http', containerPort: 8080 }], env: [{ name: 'A', value: 'B' }] },
      ],
    },
    status: { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions: [{ type: 'Ready', status: 'True' }] },
  };
}

test(`a pod takes at most ${MAX_BYTES_PER_POD} bytes in source and store together`, () => {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  assert.ok(typeof collect === 'function');
  const row = KIND_TABLE.find(({ kind }) => kind === 'Pod');
  assert.ok(row !== undefined);
  const store = new ObjectStore();
  const told = new Map<string, MeshObject>();
  collect();
  const before = process.memoryUsage().heapUsed;
  for (let index = 0; index < PODS; index++) {
    const decoded = decodeObject(row, JSON.parse(JSON.stringify(wirePod(index))));
    assert.ok(decoded.ok);
    told.set(objectKey(decoded.value), decoded.value);
    store.apply({ upserted: [decoded.value], removed: [] });
  }
  collect();
  const bytes = (process.memoryUsage().heapUsed - before) / PODS;
  assert.ok(bytes < MAX_BYTES_PER_POD, `${Math.round(bytes)} bytes per pod`);
  assert.equal(store.size, told.size);
});
