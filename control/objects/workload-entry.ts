/** WorkloadEntry (networking.istio.io): a workload that is no pod. Endpoints written into a ServiceEntry have its form. */
import {
  type Decoder,
  integer,
  mapped,
  object,
  optional,
  type Path,
  type Report,
  record,
  string,
  text,
  withDefault,
} from '../../core/decoder.ts';
import { type IpAddress, parseIp } from '../../core/ip.ts';
import { internedMap } from './intern.ts';
import { metadata, type ObjectMeta } from './metadata.ts';

/** Where a workload is. `none`: behind the gateway of its network. */
export type WorkloadAddress =
  | { readonly kind: 'ip'; readonly ip: IpAddress }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'none' };

export interface WorkloadEntrySpec {
  readonly address: WorkloadAddress;
  /** Port of the workload by name of the service's port. */
  readonly ports: ReadonlyMap<string, number>;
  readonly labels: ReadonlyMap<string, string>;
  /** Empty: the network of the cluster. */
  readonly network: string;
  readonly locality: { readonly region: string; readonly zone: string; readonly subzone: string } | undefined;
  readonly weight: number | undefined;
  /** Empty: none. */
  readonly serviceAccount: string;
}

export interface WorkloadEntry extends WorkloadEntrySpec {
  readonly kind: 'WorkloadEntry';
  readonly meta: ObjectMeta;
}

const HOST_NAME = /^(?=.{1,253}$)[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?)*$/;

/** A DNS name in lower case, without wildcard. */
export const hostName: Decoder<string> = text('a DNS name', (value) => {
  const lower = value.toLowerCase();
  return HOST_NAME.test(lower) ? lower : undefined;
});

const address: Decoder<WorkloadAddress> = text(
  'an IP address, a DNS name or unix:// with an absolute path',
  (value): WorkloadAddress | undefined => {
    if (value === '') return { kind: 'none' };
    const ip = parseIp(value);
    if (ip !== undefined) return { kind: 'ip', ip };
    if (value.startsWith('unix://')) {
      const path = value.slice('unix://'.length);
      return /^[/@]./.test(path) ? { kind: 'unix', path } : undefined;
    }
    const lower = value.toLowerCase();
    // Digits and dots that are no address are a mistake, not a name.
    return HOST_NAME.test(lower) && !/^[0-9.]+$/.test(lower) ? { kind: 'name', name: lower } : undefined;
  },
);

const shape = {
  address: withDefault(address, { kind: 'none' } as const),
  ports: withDefault(record(integer(1, 65_535)), new Map<string, number>()),
  labels: withDefault(record(string), new Map<string, string>()),
  network: withDefault(string, ''),
  locality: withDefault(string, ''),
  weight: optional(integer(0, 2 ** 32 - 1)),
  serviceAccount: withDefault(string, ''),
};

type WireSpec = { [K in keyof typeof shape]: NonNullable<ReturnType<(typeof shape)[K]>> | undefined };

/** Of a WorkloadEntry and of an endpoint. */
export const workloadEntrySpec: Decoder<WorkloadEntrySpec> = mapped(object(shape, 'ignore'), (wire, path, report) =>
  complete(wire, path, report),
);

function complete(wire: WireSpec, path: Path, report: Report): WorkloadEntrySpec {
  const where = wire.address ?? { kind: 'none' };
  const network = wire.network ?? '';
  if (where.kind === 'none' && network === '') report([...path, 'address'], 'must be given, unless a network is');
  if (where.kind === 'unix' && (wire.ports?.size ?? 0) > 0) report([...path, 'ports'], 'must be absent with unix://');
  const [region = '', zone = '', subzone = ''] = (wire.locality ?? '').split('/');
  return {
    address: where,
    ports: wire.ports ?? new Map(),
    labels: internedMap(wire.labels ?? []),
    network,
    locality: region === '' ? undefined : { region, zone, subzone },
    weight: wire.weight,
    serviceAccount: wire.serviceAccount ?? '',
  };
}

export const workloadEntry: Decoder<WorkloadEntry> = mapped(
  object({ metadata: metadata('namespaced'), spec: workloadEntrySpec }, 'ignore'),
  ({ metadata: meta, spec }, path, report) => {
    if (spec.address.kind === 'unix') report([...path, 'spec', 'address'], 'must not be unix:// here');
    return { kind: 'WorkloadEntry', meta, ...spec };
  },
);
