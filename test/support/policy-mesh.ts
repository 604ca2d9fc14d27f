/**
 * From objects to verdicts without a network: what the builder makes of objects is given to the state of an agent, which
 * judges connections. Changes go through both as they would in a mesh, one after the other.
 */
import assert from 'node:assert/strict';
import { authorize } from '../../agent/route/authorize.ts';
import { MeshState } from '../../agent/state/mesh-state.ts';
import { MeshBuilder } from '../../control/discovery/mesh-builder.ts';
import { ObjectStore } from '../../control/model/object-store.ts';
import type { ChangeSet } from '../../control/sources/source.ts';
import { getIp } from '../../core/ip.ts';
import { formatSpiffeId } from '../../core/spiffe.ts';
import { objectsOf, SETTINGS } from './control.ts';

export interface PolicyRequest {
  /** `namespace/service account`; undefined for plaintext. */
  readonly from: string | undefined;
  readonly trustDomain?: string;
  readonly sourceIp?: string;
  /** `namespace/name` of the pod. */
  readonly to: string;
  readonly port: number;
}

export class PolicyMesh {
  readonly #store = new ObjectStore();
  readonly #builder = new MeshBuilder(this.#store, SETTINGS);
  readonly state = new MeshState();

  /** Objects added or replaced. */
  put(yaml: string): void {
    this.apply({ upserted: objectsOf(yaml), removed: [] });
  }

  /** `<kind>/<namespace>/<name>` each. */
  remove(...keys: string[]): void {
    this.apply({ upserted: [], removed: keys });
  }

  apply(change: ChangeSet): void {
    const updates = this.#builder.update(this.#store.apply(change));
    for (const { type, name, resource } of updates) {
      const updated = resource === undefined ? [] : [{ name, version: resource.version, bytes: resource.bytes }];
      const removed = resource === undefined ? [name] : [];
      assert.deepEqual(this.state.apply({ typeUrl: type, updated, removed }).errors, []);
    }
  }

  allows({ from, trustDomain = 'cluster.local', sourceIp = '10.0.9.9', to, port }: PolicyRequest): boolean {
    const local = this.state.findWorkloadByUid(`${SETTINGS.clusterId}//Pod/${to}`);
    assert.ok(local, to);
    const [namespace = '', serviceAccount = ''] = from?.split('/') ?? [];
    const source = from === undefined ? undefined : formatSpiffeId({ trustDomain, namespace, serviceAccount });
    const facts = { source, sourceIp: getIp(sourceIp), destinationIp: getIp('10.0.0.2'), destinationPort: port };
    return authorize(this.state, local, facts).kind === 'allow';
  }

  /** Reason and status of the conditions of an object. */
  conditions(key: string): string[] {
    return (this.#builder.conditions().get(key) ?? []).map(({ type, status, reason }) => `${type} ${status} ${reason}`);
  }
}
