/**
 * Between pods, certificates and workers: warms up a certificate when its pod comes, hands every new one to the workers,
 * forgets identities that no pod of this node needs any more.
 */
import { toAmbitError } from '../core/errors.ts';
import { formatSpiffeId, type SpiffeId } from '../core/spiffe.ts';
import type { Dataplane } from './dataplane/dataplane.ts';
import type { EnrolledPod, PodCapture } from './dataplane/pod-capture.ts';
import type { CertificateListener, CertificatePriority, Certificates } from './state/certificates.ts';
import type { IssuedCertificate } from './state/issued-certificate.ts';
import type { MeshState } from './state/mesh-state.ts';

export interface PodIdentitiesOptions {
  readonly dataplane: Dataplane;
  readonly certificates: Certificates;
  readonly state: MeshState;
  readonly trustDomain: string;
  readonly node: string;
}

/** The `PodCapture` that enrolment gets: the data plane with the certificates of its pods. */
export class PodIdentities implements PodCapture, CertificateListener {
  readonly #options: PodIdentitiesOptions;
  readonly #unsubscribe: () => void;

  constructor(options: PodIdentitiesOptions) {
    this.#options = options;
    this.#unsubscribe = options.certificates.subscribe(this);
  }

  async addPod(pod: EnrolledPod, netnsFd: number): Promise<void> {
    this.request(this.#expectedIdentity(pod), 'warmUp');
    await this.#options.dataplane.addPod(pod, netnsFd);
  }

  /** Fetches the certificates of pods that will be added soon. Never rejects; takes at most `timeoutMs`. */
  async prepare(pods: readonly EnrolledPod[], timeoutMs: number): Promise<void> {
    const { certificates } = this.#options;
    const identities = new Set(pods.map((pod) => this.#expectedIdentity(pod)));
    const fetched = Promise.allSettled(Array.from(identities, (identity) => certificates.get(identity, 'warmUp')));
    const { promise: overdue, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, timeoutMs);
    await Promise.race([fetched, overdue]);
    clearTimeout(timer);
  }

  async removePod(uid: string): Promise<void> {
    const { dataplane, certificates } = this.#options;
    await dataplane.removePod(uid);
    const wanted = this.#wanted();
    for (const { identity } of certificates.status()) if (!wanted.has(identity)) certificates.forget(identity);
  }

  setLeaving(uid: string, leaving: boolean): void {
    this.#options.dataplane.setLeaving(uid, leaving);
  }

  countConnections(uid: string): Promise<number> {
    return this.#options.dataplane.countConnections(uid);
  }

  isListening(uid: string): Promise<boolean> {
    return this.#options.dataplane.isListening(uid);
  }

  /** Asks for a certificate in the background; the workers hear of the outcome. */
  request(identity: SpiffeId, priority: CertificatePriority): void {
    const { certificates, dataplane } = this.#options;
    certificates.get(identity, priority).catch((thrown: unknown) => {
      // Logged by the certificates themselves; here it becomes the reason of refusals.
      dataplane.removeIdentity(identity, toAmbitError(thrown, 'CA').message);
    });
  }

  onIssued(certificate: IssuedCertificate): void {
    const { identity, certificateChainPem, privateKeyPem, rootsPem } = certificate;
    this.#options.dataplane.putIdentity(identity, { certificateChainPem, privateKeyPem, rootsPem });
  }

  onGone(identity: SpiffeId): void {
    const detail = this.#wanted().has(identity) ? 'the certificate expired and could not be renewed' : '';
    this.#options.dataplane.removeIdentity(identity, detail);
  }

  close(): void {
    this.#unsubscribe();
  }

  #wanted(): Set<SpiffeId> {
    const { dataplane, state, node } = this.#options;
    const wanted = new Set<SpiffeId>();
    for (const pod of dataplane.pods()) {
      wanted.add(this.#expectedIdentity(pod));
      const { namespace, name, serviceAccount } = pod;
      const workload = state.findLocalWorkload({ namespace, name, serviceAccount, node });
      if (workload !== undefined) wanted.add(workload.identity);
    }
    return wanted;
  }

  #expectedIdentity({ namespace, serviceAccount }: EnrolledPod): SpiffeId {
    return formatSpiffeId({ trustDomain: this.#options.trustDomain, namespace, serviceAccount });
  }
}
