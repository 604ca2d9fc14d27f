/**
 * The certificate authority: signs with the signer that is due, and carries the rotation of its roots out where they
 * are its own.
 *
 * It decides nothing about who may have what; `node-authorization.ts` and the service around it do. Of several
 * replicas every one signs; only the leader rotates.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { AmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { type SignedCertificate, type SubjectAltName, signLeaf } from './certificate.ts';
import { type CaMaterial, CLOCK_SKEW_MS, type RootStore, type RotatingRoots, type Signer } from './root-store.ts';
import {
  forcedRotationStep,
  nextRotationStep,
  type RotationPolicy,
  type RotationStep,
  signingRoot,
} from './rotation.ts';

export interface IssuedCertificate {
  /** PEM: leaf first, then each intermediate; the last element holds every trusted root. */
  readonly chain: readonly string[];
  readonly serial: string;
  readonly notAfterMs: number;
}

export interface ServerCertificate {
  /** PEM: the leaf, then each intermediate. */
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly notAfterMs: number;
}

/** Replicas that write at once: each attempt begins with what the other has written. */
const MAX_ATTEMPTS = 10;

const log = logger('ca');

export class CertificateAuthority {
  readonly store: RootStore;
  readonly #policy: RotationPolicy;
  readonly #now: () => number;

  /** `now`: milliseconds since the epoch. Nothing can be signed before `open`. */
  constructor(store: RootStore, policy: RotationPolicy, now: () => number = Date.now) {
    this.store = store;
    this.#policy = policy;
    this.#now = now;
  }

  /**
   * Opens the store. Where no root can sign (the first start, or all have expired), one is made: of several replicas
   * that begin at once, one makes it and the others take it over.
   */
  async open(): Promise<void> {
    await this.store.open();
    const step = (roots: readonly Signer[]) =>
      signingRoot(roots, this.#now()) === undefined ? nextRotationStep(roots, this.#now(), this.#policy) : undefined;
    while (await this.#attempt(({ roots }) => step(roots)));
  }

  async close(): Promise<void> {
    await this.store.close();
  }

  get material(): CaMaterial {
    return this.store.material;
  }

  /** Every trusted root as one PEM text. */
  rootsPem(): string {
    return this.store.material.rootsPem;
  }

  /** The one that signs now; undefined when none is valid. */
  findSigner(): Signer | undefined {
    return signingRoot(this.store.material.signers, this.#now());
  }

  /** As `findSigner`. Throws CA when none is valid. */
  signingRoot(): Signer {
    const signer = this.findSigner();
    if (signer === undefined)
      throw new AmbitError('CA', `no certificate of the CA is valid now (${this.store.description})`);
    return signer;
  }

  /** A workload's certificate for both ends of mutual TLS. `lifetimeMs` is cut to the life of the signer. */
  issueWorkload(identity: SpiffeId, publicKey: KeyObject, lifetimeMs: number): IssuedCertificate {
    const { signed, notAfterMs, signer } = this.#sign(publicKey, [{ kind: 'uri', value: identity }], lifetimeMs);
    return { chain: [signed.pem, ...signer.chain, this.rootsPem()], serial: signed.serial, notAfterMs };
  }

  /** A certificate with a new key for a server of the control plane itself. */
  issueServer(names: readonly SubjectAltName[], lifetimeMs: number): ServerCertificate {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const { signed, notAfterMs, signer } = this.#sign(publicKey, names, lifetimeMs);
    const privateKeyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    return { certificatePem: [signed.pem, ...signer.chain].join(''), privateKeyPem, notAfterMs };
  }

  /**
   * Carries out what the rotation asks for now; true when what others read was changed. Call it often, and only where
   * this replica leads. Rejects with KUBERNETES_API when the store cannot be reached; try again.
   */
  async maintain(): Promise<boolean> {
    let changed = false;
    while (await this.#attempt(({ roots }) => nextRotationStep(roots, this.#now(), this.#policy))) changed = true;
    const { rotating } = this.store;
    if (rotating?.stale(this.#now()) === true) changed = (await rotating.store(rotating.roots, this.#now())) || changed;
    return changed;
  }

  /** Begins a rotation now, for an operator who has a reason. False when one is under way, or the roots are not ours. */
  rotate(): Promise<boolean> {
    return this.#attempt(({ roots }) => forcedRotationStep(roots, this.#now(), this.#policy));
  }

  /** Decides on what is stored now, does it, and decides again when somebody else was faster. True when it was done. */
  async #attempt(decide: (rotating: RotatingRoots) => RotationStep | undefined): Promise<boolean> {
    const { rotating } = this.store;
    if (rotating === undefined) return false;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const step = decide(rotating);
      if (step === undefined) return false;
      if (await this.#carryOut(rotating, step)) return true;
    }
    throw new AmbitError('CA', `${this.store.description} is changed by others all the time`);
  }

  async #carryOut(rotating: RotatingRoots, step: RotationStep): Promise<boolean> {
    const now = this.#now();
    if (step.kind === 'remove') {
      const stored = await rotating.store(
        rotating.roots.filter((root) => root.id !== step.id),
        now,
      );
      if (stored) log.info({ root: step.id }, 'root removed');
      return stored;
    }
    const root = rotating.make(this.#policy.rootLifetimeMs, step.signsFromMs, now);
    const stored = await rotating.store([...rotating.roots, root], now);
    if (stored) {
      const signsFrom = new Date(step.signsFromMs).toISOString();
      log.info({ root: root.id, signsFrom, notAfter: new Date(root.notAfterMs).toISOString() }, 'root created');
    }
    return stored;
  }

  #sign(
    publicKey: KeyObject,
    names: readonly SubjectAltName[],
    lifetimeMs: number,
  ): { signed: SignedCertificate; notAfterMs: number; signer: Signer } {
    const signer = this.signingRoot();
    const now = this.#now();
    const notAfterMs = Math.min(now + lifetimeMs, signer.notAfterMs);
    const notBeforeMs = Math.max(now - CLOCK_SKEW_MS, signer.notBeforeMs);
    return { signed: signLeaf(signer.issuer, publicKey, names, { notBeforeMs, notAfterMs }), notAfterMs, signer };
  }
}
