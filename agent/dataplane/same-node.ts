/**
 * The arriving half of the same-node path: both pods belong to this agent, so the identities are known from the
 * namespaces, the destination's policy is evaluated here, and no byte crosses a wire. The destination has a record of its
 * own, as if its agent had reported, and re-checks of policy find it in the registry.
 */
import { AmbitError } from '../../core/errors.ts';
import { PROXY_PORTS } from '../../core/ports.ts';
import { authorize } from '../route/authorize.ts';
import type { ConnectionRecord, Cuttable, RecordFacts } from './connection-record.ts';
import type { LocalPod } from './local-pod.ts';
import type { WorkerContext } from './worker-context.ts';

export interface SameNodeArrival {
  /** The destination's record; absent when the refusal comes before policy. */
  readonly record: ConnectionRecord | undefined;
  /** Why the connection may not go on. */
  readonly error: AmbitError | undefined;
}

/** Registers the destination's record, then asks its policy. `departure` are the facts of the source's record. */
export function openSameNodeArrival(
  worker: WorkerContext,
  target: LocalPod,
  departure: RecordFacts,
  owner: Cuttable,
): SameNodeArrival {
  const address = departure.destination;
  if (PROXY_PORTS.has(address.port)) {
    const error = new AmbitError('LOOP', `call to proxy port ${address.port} of a pod`);
    return { record: undefined, error };
  }
  const record = worker.recorder.open({ ...departure, pod: target, direction: 'inbound' }, owner);
  const local = target.findWorkload();
  if (local === undefined) return { record, error: new AmbitError('UNKNOWN_WORKLOAD', 'the pod is not announced') };
  record.authorization = {
    source: departure.source.identity,
    sourceIp: departure.client.ip,
    destinationIp: address.ip,
    destinationPort: address.port,
  };
  const verdict = authorize(worker.state, local, record.authorization);
  record.policy = verdict.policy;
  return { record, error: verdict.kind === 'deny' ? verdict.error : undefined };
}
