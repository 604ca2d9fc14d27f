/**
 * The arriving half of the same-node path: both pods belong to this agent, so the identities are known from the
 * namespaces, the destination's policy is evaluated here, and no byte crosses a wire. The destination has a record of its
 * own, as if its agent had reported, and re-checks of policy find it in the registry.
 */
import { AmbitError } from '../../core/errors.ts';
import { PROXY_PORTS } from '../../core/ports.ts';
import type { ConnectionRecord, Cuttable, RecordFacts } from './connection-record.ts';
import type { LocalPod } from './local-pod.ts';
import type { WorkerContext } from './worker-context.ts';

/**
 * Registers the destination's record, to be judged next (verdict.ts), or says why it may not come so far. `departure` are
 * the facts of the source's record.
 */
export function openSameNodeArrival(
  worker: WorkerContext,
  target: LocalPod,
  departure: RecordFacts,
  owner: Cuttable,
): ConnectionRecord | AmbitError {
  const address = departure.destination;
  if (PROXY_PORTS.has(address.port)) return new AmbitError('LOOP', `call to proxy port ${address.port} of a pod`);
  const record = worker.recorder.open({ ...departure, pod: target, direction: 'inbound' }, owner);
  record.authorization = {
    source: departure.source.identity,
    sourceIp: departure.client.ip,
    destinationIp: address.ip,
    destinationPort: address.port,
  };
  return record;
}
