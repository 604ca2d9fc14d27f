/**
 * What would happen to a connection, and why: the routing decision at the source and the policy verdict at the
 * destination, from the same pure functions the data plane runs, on what this agent knows now. Nothing is sent.
 *
 * Limits: the pick among several endpoints is one of those the data plane could make; a connection through a waypoint is
 * followed up to the waypoint, whose own policies are not known here.
 */
import { AmbitError } from '../../core/errors.ts';
import { formatSocketAddress, type IpAddress, type SocketAddress } from '../../core/ip.ts';
import { HBONE_PORT, INBOUND_PLAINTEXT_PORT } from '../../core/ports.ts';
import { explain, type PolicyFinding } from '../route/explain.ts';
import { decideOutbound, type OutboundDecision, type RouteSettings } from '../route/outbound.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { Service } from '../state/service.ts';
import type { Workload } from '../state/workload.ts';
import { suggest } from './why-advice.ts';
import { findDestination, findSource } from './why-ends.ts';

export interface WhyEnd {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly address: string | undefined;
  readonly node: string;
  readonly identity: string;
  /** False: its traffic is not captured, so it speaks plaintext and proves nothing. */
  readonly inMesh: boolean;
}

export interface WhyReport {
  readonly from: WhyEnd;
  /** What was asked for, and the address a client would dial. */
  readonly to: { readonly asked: string; readonly address: string };
  readonly route: {
    readonly kind: OutboundDecision['kind'] | 'direct';
    readonly service?: WhyService;
    readonly destination?: WhyEnd;
    /** `ip:port` that is dialled. */
    readonly dial?: string;
    readonly authority?: string;
    readonly expectedIdentities?: readonly string[];
    readonly hop?: 'direct' | 'waypoint';
    readonly error?: { readonly code: string; readonly message: string };
  };
  readonly transport: { readonly path: 'hbone' | 'same-node' | 'plaintext' | 'none'; readonly because: string };
  /** Where the destination receives it; absent when it is not in the mesh or nothing is sent. */
  readonly inbound?: { readonly node: string; readonly port: number };
  /** Absent when no agent of the mesh judges the connection. */
  readonly policy?: {
    readonly sourceIdentity: string | null;
    readonly findings: readonly PolicyFinding[];
    readonly unknownPolicies: readonly string[];
  };
  readonly verdict: 'allowed' | 'denied' | 'refused';
  /** One sentence. */
  readonly reason: string;
  /** What to do when the outcome is not the wanted one. */
  readonly advice: readonly string[];
}

export interface WhyService {
  /** `<namespace>/<hostname>`. */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly ports: readonly number[];
  readonly endpoints: readonly { readonly name: string; readonly node: string; readonly healthy: boolean }[];
}

/**
 * @param from `<namespace>/<name>` of a workload (a pod, or the name its pods share), or its address
 * @param to `<host>:<port>`; the host is an address, a service name as seen from the source's namespace (short, with
 *   namespace, or whole), or `<namespace>/<name>` of a service or workload
 */
export function why(state: MeshState, settings: RouteSettings, from: string, to: string): WhyReport | AmbitError {
  const source = findSource(state, from);
  if (source instanceof AmbitError) return source;
  const target = findDestination(state, source, to);
  if (target instanceof AmbitError) return target;
  const inMesh = isInMesh(source, settings);
  const clientIp = source.addresses[0];
  if (clientIp === undefined) return new AmbitError('UNKNOWN_WORKLOAD', `${from} has no address of its own`);
  const decision = decide(state, source, clientIp, target, settings, inMesh);
  const base = { from: whyEnd(source, settings), to: { asked: to, address: formatSocketAddress(target) } };
  const route = describeRoute(decision, inMesh, settings);
  if (decision.kind === 'refuse') {
    const { error } = decision;
    return {
      ...base,
      route,
      transport: { path: 'none', because: 'the connection is refused where it starts' },
      verdict: 'refused',
      reason: error.message,
      advice: suggest({ kind: 'refused', error, service: decision.service }),
    };
  }
  const transport = describeTransport(decision, source, inMesh, settings);
  const judged = judge(state, source, clientIp, decision, settings, inMesh);
  return { ...base, route, transport, ...judged };
}

/** A source outside the mesh dials on its own; what it would reach is found by the same rules, tunnels excepted. */
function decide(
  state: MeshState,
  source: Workload,
  clientIp: IpAddress,
  target: SocketAddress,
  settings: RouteSettings,
  inMesh: boolean,
): OutboundDecision {
  const local = settings.isLocalPod(source.uid);
  const forSource: RouteSettings = {
    outboundPolicy: inMesh ? settings.outboundPolicy : 'ALLOW_ANY',
    forceEncryption: settings.forceEncryption,
    isLocalPod: (uid) =>
      local ? settings.isLocalPod(uid) : inMesh && sharesNode(source, state.findWorkloadByUid(uid)),
  };
  return decideOutbound(state, source, clientIp, target, forSource, () => 0);
}

function sharesNode(source: Workload, destination: Workload | undefined): boolean {
  return destination !== undefined && destination.tunnelProtocol === 'HBONE' && destination.node === source.node;
}

function isInMesh(workload: Workload, settings: RouteSettings): boolean {
  return workload.tunnelProtocol === 'HBONE' || settings.isLocalPod(workload.uid);
}

function describeRoute(decision: OutboundDecision, inMesh: boolean, settings: RouteSettings): WhyReport['route'] {
  const facts = {
    ...(decision.service === undefined ? {} : { service: whyService(decision.service) }),
    ...(decision.destination === undefined ? {} : { destination: whyEnd(decision.destination, settings) }),
  };
  switch (decision.kind) {
    case 'refuse':
      return { kind: 'refuse', ...facts, error: { code: decision.error.code, message: decision.error.message } };
    case 'tunnel':
      if (!inMesh) return { kind: 'direct', ...facts, dial: decision.authority };
      return {
        kind: 'tunnel',
        ...facts,
        dial: formatSocketAddress(decision.dial),
        authority: decision.authority,
        expectedIdentities: decision.expectedIdentities,
        hop: decision.hop,
      };
    case 'sameNode':
      return { kind: inMesh ? 'sameNode' : 'direct', ...facts, dial: formatSocketAddress(decision.address) };
    case 'plain':
      return { kind: inMesh ? 'plain' : 'direct', ...facts, dial: formatSocketAddress(decision.dial) };
  }
}

function describeTransport(
  decision: Exclude<OutboundDecision, { kind: 'refuse' }>,
  source: Workload,
  inMesh: boolean,
  settings: RouteSettings,
): WhyReport['transport'] {
  if (!inMesh) return { path: 'plaintext', because: 'the client is not captured, so it has no identity' };
  switch (decision.kind) {
    case 'tunnel':
      return {
        path: 'hbone',
        because: `${decision.destination.name} accepts tunnels; mutual TLS as ${source.identity}`,
      };
    case 'sameNode':
      return {
        path: 'same-node',
        because: `both pods are on ${source.node}; identities are known, bytes stay on the node`,
      };
    case 'plain':
      if (decision.destination === undefined)
        return { path: 'plaintext', because: 'the destination is not in the registry' };
      return isInMesh(decision.destination, settings)
        ? { path: 'plaintext', because: 'the destination has no tunnel' }
        : { path: 'plaintext', because: `${decision.destination.name} is not in the mesh` };
  }
}

type Judged = Pick<WhyReport, 'inbound' | 'policy' | 'verdict' | 'reason' | 'advice'>;

function judge(
  state: MeshState,
  source: Workload,
  clientIp: IpAddress,
  decision: Exclude<OutboundDecision, { kind: 'refuse' }>,
  settings: RouteSettings,
  inMesh: boolean,
): Judged {
  const { destination } = decision;
  const advice: readonly string[] = [];
  if (destination === undefined || !isInMesh(destination, settings)) {
    return { verdict: 'allowed', reason: 'no agent of the mesh stands before the destination', advice };
  }
  const proven = inMesh && decision.kind !== 'plain';
  const inbound = { node: destination.node, port: proven ? HBONE_PORT : INBOUND_PLAINTEXT_PORT };
  if (decision.kind === 'tunnel' && decision.hop === 'waypoint') {
    return { inbound, verdict: 'allowed', reason: 'the waypoint decides; its policies are not known here', advice };
  }
  const address = addressAt(decision);
  const identity = proven ? source.identity : undefined;
  const explanation = explain(state, destination, {
    source: identity,
    sourceIp: clientIp,
    destinationIp: address.ip,
    destinationPort: address.port,
  });
  const { verdict, findings, unknownPolicies } = explanation;
  const policy = { sourceIdentity: identity ?? null, findings, unknownPolicies };
  const where = decision.kind === 'sameNode' ? {} : { inbound };
  if (verdict.kind === 'allow') {
    const reason =
      verdict.policy === undefined ? 'no ALLOW policy applies, so all is allowed' : `allowed by ${verdict.policy}`;
    return { ...where, policy, verdict: 'allowed', reason, advice };
  }
  const facts = { kind: 'denied', verdict, findings, source, destination, identity } as const;
  return { ...where, policy, verdict: 'denied', reason: verdict.error.message, advice: suggest(facts) };
}

/** The address policy is about: the application's, not the tunnel's. */
function addressAt(decision: Exclude<OutboundDecision, { kind: 'refuse' }>): SocketAddress {
  switch (decision.kind) {
    case 'sameNode':
      return decision.address;
    case 'plain':
      return decision.dial;
    case 'tunnel':
      return { ip: decision.dial.ip, port: Number(decision.authority.slice(decision.authority.lastIndexOf(':') + 1)) };
  }
}

function whyEnd(workload: Workload, settings: RouteSettings): WhyEnd {
  return {
    uid: workload.uid,
    name: workload.name,
    namespace: workload.namespace,
    address: workload.addresses[0],
    node: workload.node,
    identity: workload.identity,
    inMesh: isInMesh(workload, settings),
  };
}

function whyService(service: Service): WhyService {
  return {
    key: service.key,
    name: service.name,
    namespace: service.namespace,
    ports: service.ports.map(({ servicePort }) => servicePort),
    endpoints: [...service.endpoints.members()].map(({ name, node, healthy }) => ({ name, node, healthy })),
  };
}
