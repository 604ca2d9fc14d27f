/** Finds what an operator means by the two arguments of `why`. Pure. */
import { AmbitError } from '../../core/errors.ts';
import { parseIp, type SocketAddress } from '../../core/ip.ts';
import type { MeshState } from '../state/mesh-state.ts';
import type { Service } from '../state/service.ts';
import type { Workload } from '../state/workload.ts';

/** A workload by address, by `<namespace>/<pod>`, or the first pod of `<namespace>/<workload or app>`. */
export function findSource(state: MeshState, text: string): Workload | AmbitError {
  const ip = parseIp(text);
  const [namespace = '', name = ''] = text.split('/');
  const candidates = [...state.workloads()].filter((workload) =>
    ip === undefined ? workload.namespace === namespace && answersTo(workload, name) : workload.addresses.includes(ip),
  );
  const found = candidates.find((workload) => workload.name === name) ?? candidates.sort(byName)[0];
  return (
    found ??
    new AmbitError('UNKNOWN_WORKLOAD', `no workload of the mesh is called ${quote(text)}${nearby(state, namespace)}`)
  );
}

/** The address a client of `source`'s namespace would dial for `text`; the port of a service that has one only may be left out. */
export function findDestination(state: MeshState, source: Workload, text: string): SocketAddress | AmbitError {
  const portless = findService(state, source, text);
  if (portless !== undefined) return onlyPort(portless, source);
  const colon = text.lastIndexOf(':');
  const portText = text.slice(colon + 1);
  const host = text.slice(0, Math.max(colon, 0)).replace(/^\[(.*)\]$/, '$1');
  if (!/^[1-9][0-9]{0,4}$/.test(portText) || Number(portText) > 65535 || host === '') {
    return new AmbitError('BAD_AUTHORITY', `${quote(text)} is not <host>:<port>`);
  }
  const port = Number(portText);
  const ip = parseIp(host);
  if (ip !== undefined) return { ip, port };
  const service = findService(state, source, host);
  if (service !== undefined) return addressOfService(service, source, port);
  const workload = host.includes('/') ? findSource(state, host) : undefined;
  const address = workload instanceof AmbitError ? undefined : workload?.addresses[0];
  if (address !== undefined) return { ip: address, port };
  return new AmbitError('UNKNOWN_SERVICE', `no service or workload of the mesh is called ${quote(host)}`);
}

function onlyPort(service: Service, source: Workload): SocketAddress | AmbitError {
  const [first, second] = service.ports;
  if (first !== undefined && second === undefined) return addressOfService(service, source, first.servicePort);
  const ports = service.ports.map(({ servicePort }) => servicePort).join(', ');
  return new AmbitError('BAD_AUTHORITY', `${service.key} serves ${ports || 'no port'}: name one, as in <host>:<port>`);
}

/** The forms Kubernetes' search path allows, and `<namespace>/<name>`. */
function findService(state: MeshState, source: Workload, host: string): Service | undefined {
  const [exact] = state.findServicesByHostname(host);
  if (exact !== undefined) return exact;
  const slash = host.indexOf('/');
  const [name, namespace = source.namespace, third] =
    slash < 0 ? host.split('.') : [host.slice(slash + 1), host.slice(0, slash)];
  if (third !== undefined && third !== 'svc') return undefined;
  return [...state.services()].find((service) => service.name === name && service.namespace === namespace);
}

/** A virtual address of the client's network; a headless service is reached at an endpoint's own address. */
function addressOfService(service: Service, source: Workload, port: number): SocketAddress | AmbitError {
  const vip = service.vips.find(({ network }) => network === source.network) ?? service.vips[0];
  if (vip !== undefined) return { ip: vip.ip, port };
  for (const { addresses } of service.endpoints.members()) {
    const [ip] = addresses;
    if (ip !== undefined) return { ip, port };
  }
  return new AmbitError('NO_HEALTHY_ENDPOINT', `${service.key} is headless and has no endpoint`);
}

function answersTo(workload: Workload, name: string): boolean {
  return workload.name === name || workload.workloadName === name || workload.canonicalName === name;
}

function nearby(state: MeshState, namespace: string): string {
  const names = new Set(
    [...state.workloads()].filter((w) => w.namespace === namespace).map((w) => w.workloadName || w.name),
  );
  if (names.size === 0) return '';
  return `; in namespace ${namespace} there are ${[...names].sort().slice(0, 10).join(', ')}`;
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 300));
}

function byName(a: Workload, b: Workload): number {
  return a.name < b.name ? -1 : 1;
}
