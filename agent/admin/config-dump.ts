/**
 * `/config_dump`: what this agent knows and does, in the shape `istioctl ztunnel-config` reads, so that the tool works
 * on either agent. Keys the tool does not know are tolerated by it.
 */
import { X509Certificate } from 'node:crypto';
import { AGENT_VERSION } from '../../core/version.ts';
import type { LiveConnectionView } from '../dataplane/messages.ts';
import { dumpPolicies, dumpServices, dumpStagedServices, dumpWorkloads } from './dump-mesh.ts';
import type { AdminSource, CertificateView, PodView } from './source.ts';

export async function configDump(source: AdminSource): Promise<Record<string, unknown>> {
  const connections = Map.groupBy(await source.connections(), (connection) => connection.podUid);
  const trustDomain = source.configuration.trustDomain;
  return {
    workloads: dumpWorkloads(source.state),
    services: dumpServices(source.state),
    policies: dumpPolicies(source.state),
    stagedServices: dumpStagedServices(source.state),
    certificates: source.certificates().toSorted(byIdentity).map(dumpCertificate),
    workloadState: Object.fromEntries(
      source.pods().map((view) => [view.pod.uid, dumpPod(view, connections.get(view.pod.uid) ?? [], trustDomain)]),
    ),
    version: {
      version: AGENT_VERSION,
      implementation: 'ambit',
      runtime: process.version,
      openssl: process.versions.openssl,
    },
    config: source.configuration,
  };
}

function dumpPod({ pod, state }: PodView, connections: readonly LiveConnectionView[], trustDomain: unknown): unknown {
  const list = (direction: LiveConnectionView['direction']): unknown[] =>
    connections
      .filter((connection) => connection.direction === direction)
      .map((connection) => ({
        src: connection.source,
        originalDst: connection.originalDestination,
        actualDst: connection.actualDestination,
        protocol: connection.path === 'hbone' ? 'HBONE' : 'TCP',
      }));
  return {
    state: state === 'up' ? 'Up' : 'Pending',
    connections: { inbound: list('inbound'), outbound: list('outbound') },
    info: { name: pod.name, namespace: pod.namespace, trustDomain, serviceAccount: pod.serviceAccount },
  };
}

function dumpCertificate(view: CertificateView): unknown {
  const { state } = view;
  return {
    identity: view.identity,
    state:
      state.kind === 'available'
        ? 'Available'
        : state.kind === 'initializing'
          ? 'Initializing'
          : `Unavailable: ${state.reason}`,
    certChain: splitPem(view.chainPem).map(describePem),
    rootCerts: splitPem(view.rootsPem).map(describePem),
  };
}

function splitPem(bundle: string): string[] {
  return bundle.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----\n?/g) ?? [];
}

/** `pem` is base64 of the PEM text, the serial number is decimal, as the tool expects. */
function describePem(pem: string): unknown {
  const certificate = new X509Certificate(pem);
  return {
    pem: Buffer.from(pem).toString('base64'),
    serialNumber: BigInt(`0x${certificate.serialNumber}`).toString(),
    validFrom: rfc3339(certificate.validFromDate),
    expirationTime: rfc3339(certificate.validToDate),
  };
}

function rfc3339(date: Date): string {
  return date.toISOString().replace('.000Z', 'Z');
}

function byIdentity(a: CertificateView, b: CertificateView): number {
  return a.identity < b.identity ? -1 : 1;
}
