/**
 * Where the CA has its keys from: what it signs with and what everybody shall trust, behind one interface.
 *
 * Implementations: a folder (`file-root-store.ts`), a Secret that replicas share (`secret-root-store.ts`), and a CA
 * that somebody else runs and plugs in (`plugin-root-store.ts`). A damaged store is an error, never a reason to make a
 * new root: that would split the mesh in two.
 */
import type { Issuer } from './certificate.ts';
import type { RootLifetime } from './rotation.ts';

/** A key that signs, and its certificate. */
export interface Signer extends RootLifetime {
  readonly certificatePem: string;
  readonly issuer: Issuer;
  /** PEM of every certificate between a leaf and the roots, this signer's first; empty when the signer is a root. */
  readonly chain: readonly string[];
  /** The root at the end of the chain, PEM; the signer itself where it is one. */
  readonly rootPem: string;
  /** When that root expires, milliseconds since the epoch; `notAfterMs` is never later. */
  readonly rootNotAfterMs: number;
}

/** All that the CA works with at one moment. Replaced as a whole. */
export interface CaMaterial {
  /** In no order; `signingRoot` of rotation.ts chooses. Empty before the store was opened. */
  readonly signers: readonly Signer[];
  /** Every trusted certificate in PEM, the oldest first. */
  readonly rootsPem: string;
  /** Revocation lists of the CA (X.509 CRL, PEM) that are handed out with the roots; undefined: none. */
  readonly crlPem: string | undefined;
}

export const NO_MATERIAL: CaMaterial = { signers: [], rootsPem: '', crlPem: undefined };

export interface RootStore {
  /** As messages name it: `the folder ...`, `the Secret ...`. */
  readonly description: string;
  readonly material: CaMaterial;
  /** What is wrong with the store while the material of before stays in use; undefined: nothing. */
  readonly problem: string | undefined;
  /** Reads what is there. Rejects with CONFIGURATION when it is damaged, KUBERNETES_API when it cannot be reached. */
  open(): Promise<void>;
  /** Called after `material` was replaced. The returned function ends it. */
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
  /** Present where the CA makes and rotates its own roots. */
  readonly rotating: RotatingRoots | undefined;
}

/** The part of a store whose roots this CA makes. */
export interface RotatingRoots {
  readonly roots: readonly Signer[];
  /** True when what others read lags behind `roots` (it was deleted, or another root signs now): store them again. */
  stale(nowMs: number): boolean;
  /** Makes a root with its key, in memory. */
  make(lifetimeMs: number, signsFromMs: number, nowMs: number): Signer;
  /**
   * Stores these roots in place of those it has read. They are stored before this resolves with true; false: another
   * process was faster, and what it stored has been read.
   */
  store(roots: readonly Signer[], nowMs: number): Promise<boolean>;
}

/** Clocks of peers may be behind ours by this much. */
export const CLOCK_SKEW_MS = 120_000;

/** Tells listeners, in the order in which they came. */
export class ChangeListeners {
  readonly #listeners = new Set<() => void>();

  add(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(): void {
    for (const listener of this.#listeners) listener();
  }
}
