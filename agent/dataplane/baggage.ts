/**
 * The headers a tunnel request and its answer carry (Istio's HBONE): `baggage` describes the workload of the sender,
 * `forwarded` names the client and the service it meant, `traceparent` numbers the connection (W3C Trace Context).
 * All of it is a hint from a peer: used for labels where nothing better is known, never for a decision.
 */
import { formatSocketAddress, type SocketAddress } from '../../core/ip.ts';
import type { Workload } from '../state/workload.ts';

/** What a `baggage` header says about a workload; empty text where it says nothing. */
export interface Baggage {
  readonly cluster: string;
  readonly namespace: string;
  readonly workloadName: string;
  readonly service: string;
  readonly revision: string;
  readonly region: string;
  readonly zone: string;
}

const MAX_VALUE_LENGTH = 253;
/** Names of Kubernetes objects, labels and zones; anything else is not worth a metric label. */
const VALUE = /^[A-Za-z0-9._/-]*$/;

/** Members in Istio's order, empty ones left out. */
export function formatBaggage(workload: Workload): string {
  const members: string[] = [];
  const add = (key: string, value: string): void => {
    if (value !== '') members.push(`${key}=${value}`);
  };
  add('k8s.cluster.name', workload.clusterId);
  add('k8s.namespace.name', workload.namespace);
  add(`k8s.${workload.workloadType}.name`, workload.workloadName);
  add('service.name', workload.canonicalName);
  add('service.version', workload.canonicalRevision);
  add('cloud.region', workload.locality.region);
  add('cloud.availability_zone', workload.locality.zone);
  return members.join(',');
}

/** Total: unknown members and values that could not be Kubernetes names are ignored; undefined when nothing is left. */
export function parseBaggage(lines: readonly string[]): Baggage | undefined {
  const found = new Map<string, string>();
  for (const line of lines) {
    for (const member of line.split(',', 32)) {
      const equals = member.indexOf('=');
      if (equals <= 0) continue;
      const value = member.slice(equals + 1).trim();
      if (value === '' || value.length > MAX_VALUE_LENGTH || !VALUE.test(value)) continue;
      found.set(member.slice(0, equals).trim(), value);
    }
  }
  if (found.size === 0) return undefined;
  const get = (key: string): string => found.get(key) ?? '';
  return {
    cluster: get('k8s.cluster.name'),
    namespace: get('k8s.namespace.name'),
    workloadName:
      get('k8s.deployment.name') || get('k8s.cronjob.name') || get('k8s.pod.name') || get('k8s.job.name') || '',
    service: get('service.name'),
    revision: get('service.version'),
    region: get('cloud.region'),
    zone: get('cloud.availability_zone'),
  };
}

export function formatForwarded(client: SocketAddress, serviceHostname: string | undefined): string {
  const parameter = `for="${formatSocketAddress(client)}"`;
  return serviceHostname === undefined ? parameter : `${parameter};host=${serviceHostname}`;
}

/** The `host` parameter of a `forwarded` header, or undefined when it has none that could be a host name. */
export function parseForwardedHost(header: string | undefined): string | undefined {
  if (header === undefined || header.length > 1024) return undefined;
  for (const parameter of header.split(';', 8)) {
    const equals = parameter.indexOf('=');
    if (equals < 0 || parameter.slice(0, equals).trim().toLowerCase() !== 'host') continue;
    const value = parameter
      .slice(equals + 1)
      .trim()
      .replace(/^"(.*)"$/, '$1');
    return value.length <= MAX_VALUE_LENGTH && /^[A-Za-z0-9._-]+$/.test(value) ? value.toLowerCase() : undefined;
  }
  return undefined;
}

/** A new `traceparent`: version 00, random ids, not sampled. The ids number connections and guard nothing. */
export function newTraceparent(): string {
  return `00-${randomWord()}${randomWord()}${randomWord()}${randomWord()}-${randomWord()}${randomWord()}-00`;
}

const HEX_BYTES = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** Eight hexadecimal digits, never all zero. */
function randomWord(): string {
  const word = Math.floor(Math.random() * 0xffffffff) + 1;
  return hexByte(word >>> 24) + hexByte(word >>> 16) + hexByte(word >>> 8) + hexByte(word);
}

function hexByte(value: number): string {
  return HEX_BYTES[value & 0xff] ?? '';
}
