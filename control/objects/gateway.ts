/**
 * Gateway and GatewayClass (gateway.networking.k8s.io): what binding to waypoints and network gateways need. The status is
 * read too: a waypoint counts from the moment it has an address.
 */
import { type Decoder, integer, list, mapped, object, optional, string, withDefault } from '../../core/decoder.ts';
import { type LabelSelector, labelSelector } from './label-selector.ts';
import { metadata, type ObjectMeta } from './metadata.ts';

/** Namespaces whose objects may use a listener. */
export type AllowedNamespaces =
  | { readonly from: 'Same' | 'All' | 'None' }
  | { readonly from: 'Selector'; readonly selector: LabelSelector };

export interface GatewayListener {
  readonly name: string;
  readonly port: number;
  /** `HBONE`, `istio.io/PROXY`, `HTTP`, ... */
  readonly protocol: string;
  readonly hostname: string | undefined;
  readonly allowed: AllowedNamespaces;
}

export interface GatewayAddress {
  /** `IPAddress`, `Hostname` or a name of a vendor. */
  readonly type: string;
  readonly value: string;
}

export interface Gateway {
  readonly kind: 'Gateway';
  readonly meta: ObjectMeta;
  readonly className: string;
  readonly listeners: readonly GatewayListener[];
  /** Where it is, by its status. Empty: not programmed yet. */
  readonly addresses: readonly GatewayAddress[];
  /** Where it should be, by its spec. */
  readonly wantedAddresses: readonly GatewayAddress[];
}

export interface GatewayClass {
  readonly kind: 'GatewayClass';
  readonly meta: ObjectMeta;
  readonly controllerName: string;
}

const address = object({ type: withDefault(string, 'IPAddress'), value: withDefault(string, '') }, 'ignore');
const addresses = withDefault(list(address), []);

const allowedRoutes = object(
  { namespaces: optional(object({ from: withDefault(string, 'Same'), selector: optional(labelSelector) }, 'ignore')) },
  'ignore',
);

const listener: Decoder<GatewayListener> = mapped(
  object(
    {
      name: string,
      port: integer(1, 65_535),
      protocol: string,
      hostname: optional(string),
      allowedRoutes: optional(allowedRoutes),
    },
    'ignore',
  ),
  (wire, path, report) => {
    const { from = 'Same', selector } = wire.allowedRoutes?.namespaces ?? {};
    let allowed: AllowedNamespaces = { from: 'None' };
    if (from === 'Same' || from === 'All' || from === 'None') allowed = { from };
    else if (from !== 'Selector') {
      report([...path, 'allowedRoutes', 'namespaces', 'from'], 'must be one of Same, All, Selector, None');
    } else if (selector !== undefined) allowed = { from, selector };
    else report([...path, 'allowedRoutes', 'namespaces'], 'needs a selector');
    const { name, port, protocol, hostname } = wire;
    return { name, port, protocol, hostname, allowed };
  },
);

export const gateway: Decoder<Gateway> = mapped(
  object(
    {
      metadata: metadata('namespaced'),
      spec: object({ gatewayClassName: string, listeners: withDefault(list(listener), []), addresses }, 'ignore'),
      status: optional(object({ addresses }, 'ignore')),
    },
    'ignore',
  ),
  ({ metadata: meta, spec, status }) => ({
    kind: 'Gateway',
    meta,
    className: spec.gatewayClassName,
    listeners: spec.listeners,
    addresses: status?.addresses ?? [],
    wantedAddresses: spec.addresses,
  }),
);

export const gatewayClass: Decoder<GatewayClass> = mapped(
  object({ metadata: metadata('cluster'), spec: object({ controllerName: string }, 'ignore') }, 'ignore'),
  ({ metadata: meta, spec }) => ({ kind: 'GatewayClass', meta, controllerName: spec.controllerName }),
);
