/**
 * The ports kubelet itself connects to in a pod: HTTP, TCP and gRPC probes and the HTTP and TCP handlers of lifecycle hooks,
 * of all containers, init containers (native sidecars have probes as well) and ephemeral ones. Pure.
 *
 * A probe that names another `host` than the pod does not arrive in the pod and is left out. A named port is that of
 * the container (core/v1 ContainerPort); a name nobody declares is left out, as kubelet refuses such a probe.
 */
import { MAX_PROBE_PORTS } from './limits.ts';
import { fieldOf, listOf } from './object-fields.ts';

const PROBES = ['livenessProbe', 'readinessProbe', 'startupProbe'];
const HOOKS = ['postStart', 'preStop'];
const CONTAINERS = ['containers', 'initContainers', 'ephemeralContainers'];

/** Ascending, without repetition. */
export function readProbePorts(spec: unknown): readonly number[] {
  const ports = new Set<number>();
  for (const container of CONTAINERS.flatMap((key) => listOf(spec, key))) {
    const handlers = [
      ...PROBES.map((key) => fieldOf(container, key)),
      ...HOOKS.map((key) => fieldOf(fieldOf(container, 'lifecycle'), key)),
    ];
    for (const handler of handlers) {
      const port = handlerPort(handler, container);
      if (port !== undefined && ports.size < MAX_PROBE_PORTS) ports.add(port);
    }
  }
  return [...ports].sort((a, b) => a - b);
}

function handlerPort(handler: unknown, container: unknown): number | undefined {
  for (const kind of ['httpGet', 'tcpSocket', 'grpc']) {
    const action = fieldOf(handler, kind);
    if (action === undefined || action === null) continue;
    const host = fieldOf(action, 'host');
    if (typeof host === 'string' && host !== '') return undefined;
    return resolvePort(fieldOf(action, 'port'), container);
  }
  return undefined;
}

function resolvePort(port: unknown, container: unknown): number | undefined {
  if (typeof port === 'string') {
    const declared = listOf(container, 'ports').find((entry) => fieldOf(entry, 'name') === port);
    if (declared !== undefined) return resolvePort(fieldOf(declared, 'containerPort'), container);
    return /^[0-9]{1,5}$/.test(port) ? resolvePort(Number(port), container) : undefined;
  }
  return typeof port === 'number' && Number.isInteger(port) && port >= 1 && port <= 65535 ? port : undefined;
}
