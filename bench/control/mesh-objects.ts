/** A cluster of any size, object by object, as the API server would describe it. */
import { decodeObject, identify, type MeshObject } from '../../control/objects/object.ts';

export interface MeshSize {
  readonly pods: number;
  readonly services: number;
  readonly nodes: number;
  readonly namespaces: number;
}

export function* meshObjects(size: MeshSize): Generator<MeshObject, void> {
  for (let index = 0; index < size.namespaces; index++) {
    const labels = { 'istio.io/dataplane-mode': 'ambient' };
    yield decoded({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: `ns-${index}`, labels } });
  }
  for (let index = 0; index < size.nodes; index++) {
    const labels = {
      'topology.kubernetes.io/region': 'region-1',
      'topology.kubernetes.io/zone': `zone-${index % 3}`,
    };
    yield decoded({ apiVersion: 'v1', kind: 'Node', metadata: { name: `node-${index}`, labels } });
  }
  for (let index = 0; index < size.services; index++) {
    yield decoded({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: `app-${index}`, namespace: namespaceOf(index, size) },
      spec: {
        clusterIP: `10.${96 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`,
        selector: { app: `app-${index}` },
        ports: [{ name: 'http', port: 80, targetPort: 8080, protocol: 'TCP' }],
      },
    });
  }
  for (let index = 0; index < size.pods; index++) yield podObject(`pod-${index}`, index % size.services, index, size);
}

/** A pod of service `app-<service>`; `index` decides on its address and node. */
export function podObject(suffix: string, service: number, index: number, size: MeshSize): MeshObject {
  const app = `app-${service}`;
  return decoded({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `${app}-7c9f6d5b4d-${suffix}`,
      namespace: namespaceOf(service, size),
      uid: `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`,
      labels: { app, 'pod-template-hash': '7c9f6d5b4d', version: 'v1' },
      annotations: { 'ambient.istio.io/redirection': 'enabled' },
      ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: `${app}-7c9f6d5b4d`, controller: true }],
    },
    spec: {
      nodeName: `node-${index % size.nodes}`,
      serviceAccountName: app,
      containers: [{ name: 'app', ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' }] }],
    },
    status: {
      phase: 'Running',
      podIP: address(index),
      podIPs: [{ ip: address(index) }],
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  });
}

function namespaceOf(service: number, size: MeshSize): string {
  return `ns-${service % size.namespaces}`;
}

function address(index: number): string {
  return `10.${(index >> 16) & 63}.${(index >> 8) & 255}.${index & 255}`;
}

function decoded(value: unknown): MeshObject {
  const identity = identify(value);
  if (identity.kind !== 'known') throw new Error(`not an object the mesh reads: ${JSON.stringify(value)}`);
  const result = decodeObject(identity.row, value);
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.value;
}
