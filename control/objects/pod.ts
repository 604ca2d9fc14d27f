/** Pod: what discovery, the CA's node authorization and policy attachment read of it. */

import {
  boolean,
  type Decoder,
  integer,
  list,
  mapped,
  object,
  oneOf,
  optional,
  string,
  text,
  withDefault,
} from '../../core/decoder.ts';
import { type IpAddress, parseIp } from '../../core/ip.ts';
import { interned, internedList } from './intern.ts';
import { MIRROR_ANNOTATION, metadata, type ObjectMeta, objectName } from './metadata.ts';

export const POD_PHASES = ['Pending', 'Running', 'Succeeded', 'Failed', 'Unknown'] as const;

export interface Pod {
  readonly kind: 'Pod';
  readonly meta: ObjectMeta;
  /** Empty until scheduled. */
  readonly nodeName: string;
  /** Empty: none, so that nobody gets an identity for it. */
  readonly serviceAccount: string;
  readonly hostNetwork: boolean;
  /** Named TCP ports of all long-running containers, in order of declaration. */
  readonly namedPorts: readonly { readonly name: string; readonly port: number }[];
  readonly phase: (typeof POD_PHASES)[number];
  readonly ready: boolean;
  /** Canonical, without duplicates, primary first. */
  readonly ips: readonly IpAddress[];
}

const containerPort = object(
  { name: withDefault(string, ''), containerPort: integer(1, 65_535), protocol: withDefault(string, 'TCP') },
  'ignore',
);
const container = object(
  { name: string, ports: withDefault(list(containerPort), []), restartPolicy: optional(string) },
  'ignore',
);
const ipText: Decoder<IpAddress> = text('an IP address', parseIp);

const wirePod = object(
  {
    metadata: metadata('namespaced'),
    spec: object(
      {
        nodeName: withDefault(string, ''),
        serviceAccountName: optional(objectName),
        hostNetwork: withDefault(boolean, false),
        containers: withDefault(list(container), []),
        initContainers: withDefault(list(container), []),
      },
      'ignore',
    ),
    status: withDefault(
      object(
        {
          phase: optional(oneOf(...POD_PHASES)),
          podIP: optional(ipText),
          podIPs: withDefault(list(object({ ip: ipText }, 'ignore')), []),
          conditions: optional(list(object({ type: string, status: string }, 'ignore'))),
        },
        'ignore',
      ),
      { phase: undefined, podIP: undefined, podIPs: [], conditions: undefined },
    ),
  },
  'ignore',
);

/**
 * In Kubernetes every running pod has conditions. An object that states an address and no conditions at all was
 * written by hand or by the sandbox: it counts as a running, ready pod.
 */
export const pod: Decoder<Pod> = mapped(wirePod, ({ metadata: meta, spec, status }) => {
  const ips = new Set<IpAddress>();
  if (status.podIP !== undefined) ips.add(status.podIP);
  for (const { ip } of status.podIPs) ips.add(ip);
  const sidecars = spec.initContainers.filter((candidate) => candidate.restartPolicy === 'Always');
  const namedPorts = [...spec.containers, ...sidecars]
    .flatMap((candidate) => candidate.ports)
    .filter((port) => port.name !== '' && port.protocol === 'TCP')
    .map((port) => ({ name: port.name, port: port.containerPort }));
  const writtenByHand = status.conditions === undefined && ips.size > 0;
  return {
    kind: 'Pod',
    meta,
    nodeName: interned(spec.nodeName),
    serviceAccount: interned(spec.serviceAccountName || accountOfNone(meta)),
    hostNetwork: spec.hostNetwork,
    namedPorts: internedList(namedPorts),
    phase: status.phase ?? (writtenByHand ? 'Running' : 'Pending'),
    ready:
      writtenByHand ||
      (status.conditions ?? []).some((condition) => condition.type === 'Ready' && condition.status === 'True'),
    ips: [...ips],
  };
});

/**
 * The API server gives every pod an account but those that a kubelet makes up, which must not have one: or else a node
 * could have the default identity of every namespace for the asking.
 */
function accountOfNone({ annotations }: ObjectMeta): string {
  return annotations.has(MIRROR_ANNOTATION) ? '' : 'default';
}

/** Succeeded and Failed pods never run again: they have no address and no right to an identity. */
export function isTerminal(candidate: Pod): boolean {
  return candidate.phase === 'Succeeded' || candidate.phase === 'Failed';
}
