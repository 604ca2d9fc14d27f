/**
 * The certificate authority: signs with the root that the rotation names, and carries the rotation out.
 *
 * It decides nothing about who may have what; `node-authorization.ts` and the service around it do.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { AmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { type SignedCertificate, type SubjectAltName, signLeaf } from './certificate.ts';
import { CLOCK_SKEW_MS, type Root, RootStore } from './root-store.ts';
import {
  forcedRotationStep,
  nextRotationStep,
  type RotationPolicy,
  type RotationStep,
  signingRoot,
} from './rotation.ts';

export interface IssuedCertificate {
  /** PEM: leaf first; the last element holds every trusted root. */
  readonly chain: readonly string[];
  readonly serial: string;
  readonly notAfterMs: number;
}

const log = logger('ca');

export class CertificateAuthority {
  readonly #store: RootStore;
  readonly #policy: RotationPolicy;
  readonly #now: () => number;

  /** Opens the state folder; makes the first root when there is none. `now`: milliseconds since the epoch. */
  constructor(stateDir: string, trustDomain: string, policy: RotationPolicy, now: () => number = Date.now) {
    this.#policy = policy;
    this.#now = now;
    this.#store = new RootStore(stateDir, trustDomain);
    this.maintain();
  }

  /** Every trusted root as one PEM text. */
  rootsPem(): string {
    return this.#store.bundlePem();
  }

  /** The root that signs now. Throws CA when every root has expired. */
  signingRoot(): Root {
    const root = signingRoot(this.#store.roots, this.#now());
    if (root === undefined) throw new AmbitError('CA', 'no root of the CA is valid now');
    return root;
  }

  /** A workload's certificate for both ends of mutual TLS. `lifetimeMs` is cut to the life of the root. */
  issueWorkload(identity: SpiffeId, publicKey: KeyObject, lifetimeMs: number): IssuedCertificate {
    const { signed, notAfterMs } = this.#sign(publicKey, [{ kind: 'uri', value: identity }], lifetimeMs);
    return { chain: [signed.pem, this.rootsPem()], serial: signed.serial, notAfterMs };
  }

  /** A certificate with a new key for a server of the control plane itself. */
  issueServer(names: readonly SubjectAltName[], lifetimeMs: number): ServerCertificate {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const { signed, notAfterMs } = this.#sign(publicKey, names, lifetimeMs);
    const privateKeyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    return { certificatePem: signed.pem, privateKeyPem, notAfterMs };
  }

  /** Carries out what the rotation asks for now; true when the set of trusted roots changed. Call it often. */
  maintain(): boolean {
    let changed = false;
    for (let step = this.#next(); step !== undefined; step = this.#next()) {
      this.#carryOut(step);
      changed = true;
    }
    return changed;
  }

  /** Begins a rotation now, for an operator who has a reason. False when one is under way already. */
  rotate(): boolean {
    const step = forcedRotationStep(this.#store.roots, this.#now(), this.#policy);
    if (step === undefined) return false;
    this.#carryOut(step);
    return true;
  }

  #next(): RotationStep | undefined {
    return nextRotationStep(this.#store.roots, this.#now(), this.#policy);
  }

  #carryOut(step: RotationStep): void {
    if (step.kind === 'create') {
      const root = this.#store.create(this.#policy.rootLifetimeMs, step.signsFromMs, this.#now());
      const signsFrom = new Date(step.signsFromMs).toISOString();
      log.info({ root: root.id, signsFrom, notAfter: new Date(root.notAfterMs).toISOString() }, 'root created');
    } else {
      this.#store.remove(step.id);
      log.info({ root: step.id }, 'root removed');
    }
  }

  #sign(
    publicKey: KeyObject,
    names: readonly SubjectAltName[],
    lifetimeMs: number,
  ): { signed: SignedCertificate; notAfterMs: number } {
    const root = this.signingRoot();
    const now = this.#now();
    const notAfterMs = Math.min(now + lifetimeMs, root.notAfterMs);
    const notBeforeMs = Math.max(now - CLOCK_SKEW_MS, root.notBeforeMs);
    return { signed: signLeaf(root, publicKey, names, { notBeforeMs, notAfterMs }), notAfterMs };
  }
}

export interface ServerCertificate {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly notAfterMs: number;
}
