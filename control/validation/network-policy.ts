/**
 * NetworkPolicy (networking.k8s.io/v1): not an object of the mesh, but one that can cut it off. Read only for the checks;
 * peers are kept as they were written, for the companion policy that is printed.
 */
import {
  type Decoder,
  integer,
  list,
  mapped,
  object,
  oneOf,
  optional,
  record,
  string,
  withDefault,
} from '../../core/decoder.ts';
import type { LabelSelector } from '../../core/enrolment/label-selector.ts';
import { metadata, type ObjectMeta } from '../objects/metadata.ts';

export interface NetworkPolicyPort {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  /** A number or the name of a container port; undefined: every port. */
  readonly port: number | string | undefined;
  readonly endPort: number | undefined;
}

export interface NetworkPolicyRule {
  /** Empty: every port. */
  readonly ports: readonly NetworkPolicyPort[];
  /** `from` or `to` as written; undefined: everybody. */
  readonly peers: readonly unknown[] | undefined;
}

export interface NetworkPolicy {
  readonly kind: 'NetworkPolicy';
  readonly meta: ObjectMeta;
  readonly podSelector: LabelSelector;
  /** Undefined: the policy does not isolate in this direction. */
  readonly ingress: readonly NetworkPolicyRule[] | undefined;
  readonly egress: readonly NetworkPolicyRule[] | undefined;
}

const asWritten: Decoder<unknown> = (value) => value;

const labelSelector: Decoder<LabelSelector> = mapped(
  object(
    {
      matchLabels: withDefault(record(string), new Map<string, string>()),
      matchExpressions: withDefault(
        list(
          object(
            {
              key: string,
              operator: oneOf('In', 'NotIn', 'Exists', 'DoesNotExist'),
              values: withDefault(list(string), []),
            },
            'ignore',
          ),
        ),
        [],
      ),
    },
    'ignore',
  ),
  ({ matchLabels, matchExpressions }) => ({ matchLabels: Object.fromEntries(matchLabels), matchExpressions }),
);

const portValue: Decoder<number | string> = (value, path, report) =>
  typeof value === 'string' ? value : integer(1, 65_535)(value, path, report);

const port = object(
  {
    protocol: withDefault(oneOf('TCP', 'UDP', 'SCTP'), 'TCP'),
    port: optional(portValue),
    endPort: optional(integer(1, 65_535)),
  },
  'ignore',
);
const ports: Decoder<NetworkPolicyPort[]> = withDefault(list(port), []);

const wire = object(
  {
    metadata: metadata('namespaced'),
    spec: object(
      {
        podSelector: withDefault(labelSelector, {}),
        policyTypes: optional(list(oneOf('Ingress', 'Egress'))),
        ingress: optional(list(object({ ports, from: optional(list(asWritten)) }, 'ignore'))),
        egress: optional(list(object({ ports, to: optional(list(asWritten)) }, 'ignore'))),
      },
      'ignore',
    ),
  },
  'ignore',
);

/** Without policyTypes a policy is for Ingress, and for Egress when it has egress rules. */
export const networkPolicy: Decoder<NetworkPolicy> = mapped(wire, ({ metadata: meta, spec }) => {
  const types = spec.policyTypes ?? (spec.egress === undefined ? ['Ingress'] : ['Ingress', 'Egress']);
  const some = (peers: readonly unknown[] | undefined) =>
    peers === undefined || peers.length === 0 ? undefined : peers;
  return {
    kind: 'NetworkPolicy',
    meta,
    podSelector: spec.podSelector,
    ingress: types.includes('Ingress')
      ? (spec.ingress ?? []).map(({ ports: of, from }) => ({ ports: of, peers: some(from) }))
      : undefined,
    egress: types.includes('Egress')
      ? (spec.egress ?? []).map(({ ports: of, to }) => ({ ports: of, peers: some(to) }))
      : undefined,
  };
});
