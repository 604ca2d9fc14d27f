/** EndpointSlice (discovery.k8s.io): endpoints of a Service, with the ports as they are reached. */
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
  withDefault,
} from '../../core/decoder.ts';
import { type IpAddress, parseIp } from '../../core/ip.ts';
import { interned } from './intern.ts';
import { metadata, type ObjectMeta } from './metadata.ts';

export interface Endpoint {
  /** Canonical. Empty in slices of names. */
  readonly addresses: readonly IpAddress[];
  /** Only in slices of names. */
  readonly names: readonly string[];
  /** Absent conditions count as the API says: ready and serving, not terminating. */
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** Empty where none is known. */
  readonly nodeName: string;
  readonly zone: string;
  /** What stands behind the address, usually a Pod of the same namespace. */
  readonly target: { readonly kind: string; readonly name: string } | undefined;
}

export interface EndpointPort {
  readonly name: string;
  /** Undefined: any port. */
  readonly port: number | undefined;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly appProtocol: string | undefined;
}

export interface EndpointSlice {
  readonly kind: 'EndpointSlice';
  readonly meta: ObjectMeta;
  /** Name of the Service, from the label `kubernetes.io/service-name`; empty: of none. */
  readonly service: string;
  readonly addressType: 'IPv4' | 'IPv6' | 'FQDN';
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
}

const endpoint = object(
  {
    addresses: withDefault(list(string), []),
    conditions: optional(
      object({ ready: optional(boolean), serving: optional(boolean), terminating: optional(boolean) }, 'ignore'),
    ),
    nodeName: withDefault(string, ''),
    zone: withDefault(string, ''),
    targetRef: optional(object({ kind: withDefault(string, ''), name: withDefault(string, '') }, 'ignore')),
  },
  'ignore',
);

const port = object(
  {
    name: withDefault(string, ''),
    port: optional(integer(1, 65_535)),
    protocol: withDefault(oneOf('TCP', 'UDP', 'SCTP'), 'TCP'),
    appProtocol: optional(string),
  },
  'ignore',
);

const wireSlice = object(
  {
    metadata: metadata('namespaced'),
    addressType: oneOf('IPv4', 'IPv6', 'FQDN'),
    endpoints: withDefault(list(endpoint), []),
    ports: withDefault(list(port), []),
  },
  'ignore',
);

export const endpointSlice: Decoder<EndpointSlice> = mapped(wireSlice, (wire, path, report) => ({
  kind: 'EndpointSlice',
  meta: wire.metadata,
  service: wire.metadata.labels.get('kubernetes.io/service-name') ?? '',
  addressType: wire.addressType,
  ports: wire.ports.map(({ name, port: number, protocol, appProtocol }) => ({
    name: interned(name),
    port: number,
    protocol,
    appProtocol,
  })),
  endpoints: wire.endpoints.map((from, index) => {
    const addresses: IpAddress[] = [];
    if (wire.addressType !== 'FQDN') {
      for (const [position, text] of from.addresses.entries()) {
        const ip = parseIp(text);
        if (ip === undefined) report([...path, 'endpoints', index, 'addresses', position], 'must be an IP address');
        else addresses.push(ip);
      }
    }
    const ready = from.conditions?.ready ?? true;
    return {
      addresses,
      names: wire.addressType === 'FQDN' ? from.addresses : NO_NAMES,
      ready,
      serving: from.conditions?.serving ?? ready,
      terminating: from.conditions?.terminating ?? false,
      nodeName: interned(from.nodeName),
      zone: interned(from.zone),
      target:
        from.targetRef === undefined ? undefined : { kind: interned(from.targetRef.kind), name: from.targetRef.name },
    };
  }),
}));

const NO_NAMES: readonly string[] = [];
