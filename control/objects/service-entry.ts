/** ServiceEntry (networking.istio.io): a service by name that Kubernetes does not know, inside or outside of the mesh. */
import {
  type Decoder,
  filledList,
  integer,
  list,
  mapped,
  object,
  oneOf,
  optional,
  type Path,
  type Report,
  record,
  string,
  text,
  withDefault,
} from '../../core/decoder.ts';
import { type CidrBlock, type IpAddress, parseCidr, parseIp } from '../../core/ip.ts';
import { metadata, type ObjectMeta } from './metadata.ts';
import { hostName, type WorkloadEntrySpec, workloadEntrySpec } from './workload-entry.ts';

export const SERVICE_ENTRY_RESOLUTIONS = ['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS'] as const;

export interface ServiceEntryPort {
  readonly name: string;
  readonly port: number;
  /** As written: `HTTP`, `HTTPS`, `GRPC`, `HTTP2`, `MONGO`, `TCP`, `TLS`; upper case. */
  readonly protocol: string;
  /** Equal to `port` where nothing else is said. */
  readonly target: number;
}

export interface ServiceEntry {
  readonly kind: 'ServiceEntry';
  readonly meta: ObjectMeta;
  /** Lower case; a wildcard begins with `*.`. */
  readonly hosts: readonly string[];
  readonly addresses: readonly CidrBlock[];
  readonly ports: readonly ServiceEntryPort[];
  readonly location: 'MESH_EXTERNAL' | 'MESH_INTERNAL';
  readonly resolution: (typeof SERVICE_ENTRY_RESOLUTIONS)[number];
  readonly endpoints: readonly WorkloadEntrySpec[];
  /** Undefined: endpoints are not found by labels. */
  readonly selector: ReadonlyMap<string, string> | undefined;
  /** Namespaces, `.` or `*`; empty: everywhere. */
  readonly exportTo: readonly string[];
  readonly subjectAltNames: readonly string[];
  /** Addresses that were allocated for it, by its status. An address without host counts for every host. */
  readonly allocated: readonly { readonly host: string; readonly ip: IpAddress }[];
}

const host: Decoder<string> = (value, path, report) => {
  if (typeof value === 'string' && value.startsWith('*.')) {
    const rest = hostName(value.slice(2), path, report);
    return rest === undefined ? undefined : `*.${rest}`;
  }
  if (value === '*') {
    report(path, 'must not be * alone');
    return undefined;
  }
  return hostName(value, path, report);
};

const port: Decoder<ServiceEntryPort> = mapped(
  object(
    {
      number: integer(1, 65_535),
      name: string,
      protocol: withDefault(string, 'TCP'),
      targetPort: optional(integer(1, 65_535)),
    },
    'ignore',
  ),
  ({ number, name, protocol, targetPort }) => ({
    name,
    port: number,
    protocol: protocol.toUpperCase(),
    target: targetPort ?? number,
  }),
);

const specification = object(
  {
    hosts: filledList(host),
    addresses: withDefault(list(text('an IP address or a CIDR block', parseCidr)), []),
    ports: withDefault(list(port), []),
    location: withDefault(oneOf('MESH_EXTERNAL', 'MESH_INTERNAL'), 'MESH_EXTERNAL'),
    resolution: withDefault(oneOf(...SERVICE_ENTRY_RESOLUTIONS), 'NONE'),
    endpoints: withDefault(list(workloadEntrySpec), []),
    workloadSelector: optional(object({ labels: withDefault(record(string), new Map<string, string>()) }, 'refuse')),
    exportTo: withDefault(list(string), []),
    subjectAltNames: withDefault(list(string), []),
  },
  'ignore',
);

const allocated = object({ host: withDefault(string, ''), value: text('an IP address', parseIp) }, 'ignore');
const status = object({ addresses: withDefault(list(allocated), []) }, 'ignore');

type Specification = NonNullable<ReturnType<typeof specification>>;

export const serviceEntry: Decoder<ServiceEntry> = mapped(
  object({ metadata: metadata('namespaced'), spec: specification, status: optional(status) }, 'ignore'),
  ({ metadata: meta, spec, status: found }, path, report) => {
    check(spec, [...path, 'spec'], report);
    return {
      kind: 'ServiceEntry',
      meta,
      hosts: spec.hosts,
      addresses: spec.addresses,
      ports: spec.ports,
      location: spec.location,
      resolution: spec.resolution,
      endpoints: spec.endpoints,
      selector: spec.workloadSelector?.labels,
      exportTo: spec.exportTo,
      subjectAltNames: spec.subjectAltNames,
      allocated: (found?.addresses ?? []).map((entry) => ({ host: entry.host, ip: entry.value })),
    };
  },
);

/** What only shows in the whole. */
function check(spec: Specification, path: Path, report: Report): void {
  const { resolution, endpoints, workloadSelector, ports, hosts, addresses } = spec;
  if (workloadSelector !== undefined && endpoints.length > 0) {
    report([...path, 'workloadSelector'], 'must not stand beside endpoints');
  }
  if (workloadSelector !== undefined && workloadSelector.labels.size === 0) {
    report([...path, 'workloadSelector', 'labels'], 'must name at least one label');
  }
  const numbers = new Set<number>();
  const names = new Set<string>();
  for (const [index, { port: number, name }] of ports.entries()) {
    if (numbers.has(number)) report([...path, 'ports', index, 'number'], `${number} is listed twice`);
    if (names.has(name)) report([...path, 'ports', index, 'name'], `${JSON.stringify(name)} is listed twice`);
    numbers.add(number);
    names.add(name);
  }
  if (resolution === 'NONE' && endpoints.length > 0)
    report([...path, 'endpoints'], 'must be empty with resolution NONE');
  const wildcards = hosts.some((name) => name.startsWith('*'));
  if (wildcards && resolution !== 'NONE' && resolution !== 'STATIC' && resolution !== 'DYNAMIC_DNS') {
    report([...path, 'hosts'], `a wildcard cannot be resolved with resolution ${resolution}`);
  }
  if (resolution === 'DYNAMIC_DNS' && !wildcards) report([...path, 'hosts'], 'must be wildcards with DYNAMIC_DNS');
  if (resolution === 'DYNAMIC_DNS' && (endpoints.length > 0 || addresses.length > 0)) {
    report(path, 'must have neither endpoints nor addresses with resolution DYNAMIC_DNS');
  }
  if (resolution === 'STATIC') {
    for (const [index, { address }] of endpoints.entries()) {
      if (address.kind === 'name') {
        report([...path, 'endpoints', index, 'address'], 'must be an IP address with resolution STATIC');
      }
    }
  }
}
