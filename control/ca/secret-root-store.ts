/**
 * The roots of the CA in a Secret that all replicas share. Whoever creates it first wins, the others take over what is
 * in it; every later write names the version it was decided on. All replicas watch it and use what it holds.
 *
 *   created by one ──> watched by all ──> replaced by the leader (version as precondition) ──> taken over by all
 *
 * What cannot be used (damaged by hand, or without overlap with what is in use) is refused: the material of before stays
 * in use, nobody overwrites what the operator wrote, and `problem` says what to do. A Secret that was deleted is
 * written again from the memory of whoever is first: a replica that starts meanwhile must not make another root.
 */
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { isAlreadyExists, isConflict, isNotFound } from '../../kube/api-error.ts';
import type { KubeClient } from '../../kube/client.ts';
import { type KubeObject, kubeObject } from '../../kube/object.ts';
import { Reflector } from '../../kube/reflector.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { findMissingOverlap, outrunsDistribution } from './overlap.ts';
import { makeRoot } from './root-list.ts';
import {
  type CaMaterial,
  ChangeListeners,
  NO_MATERIAL,
  type RootStore,
  type RotatingRoots,
  type Signer,
} from './root-store.ts';
import {
  announcesAnother,
  bundleOf,
  CA_SECRET_NAME,
  CA_SECRET_TYPE,
  caSecretData,
  readCaSecret,
  type SecretContent,
} from './secret-layout.ts';

export interface SecretRootStoreOptions {
  readonly namespace: string;
  readonly name?: string;
  /** The trust domain: a Secret that holds the roots of another is refused. */
  readonly organization: string;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

const log = logger('ca');

export class SecretRootStore implements RootStore, RotatingRoots {
  readonly description: string;
  readonly #client: KubeClient;
  readonly #options: SecretRootStoreOptions;
  readonly #name: string;
  readonly #now: () => number;
  readonly #listeners = new ChangeListeners();
  readonly #reflector: Reflector<KubeObject | undefined>;
  /** As last read or written, usable or not; undefined: there is none. */
  #stored: KubeObject | undefined;
  #content: SecretContent = { roots: [], extraRoots: [], announcedPem: '' };
  #problem: string | undefined;
  #outage: string | undefined;
  material: CaMaterial = NO_MATERIAL;

  constructor(client: KubeClient, options: SecretRootStoreOptions) {
    this.#client = client;
    this.#options = options;
    this.#name = options.name ?? CA_SECRET_NAME;
    this.#now = options.now ?? Date.now;
    this.description = `the Secret ${options.namespace}/${this.#name}`;
    const selection = { namespace: options.namespace, fieldSelector: `metadata.name=${this.#name}` };
    this.#reflector = new Reflector(client, RESOURCES.Secret, selection, {
      read: (item: unknown) => kubeObject(item),
      replaced: ([item]: readonly (KubeObject | undefined)[]) => this.#seen(item),
      changed: (item: KubeObject | undefined) => this.#seen(item),
      removed: () => this.#seen(undefined),
      degraded: (reason: string | undefined) => {
        this.#outage = reason === undefined ? undefined : `${this.description} cannot be watched: ${reason}`;
      },
    });
  }

  async open(): Promise<void> {
    await this.#reload();
    this.#reflector.start();
  }

  get problem(): string | undefined {
    return this.#problem ?? this.#outage;
  }

  get rotating(): RotatingRoots {
    return this;
  }

  get roots(): readonly Signer[] {
    return this.#content.roots;
  }

  stale(nowMs: number): boolean {
    if (this.#content.roots.length === 0) return false;
    if (this.#stored === undefined) return true;
    return this.#problem === undefined && announcesAnother(this.#content, nowMs);
  }

  make(lifetimeMs: number, signsFromMs: number, nowMs: number): Signer {
    return makeRoot(this.#options.organization, lifetimeMs, signsFromMs, nowMs);
  }

  async store(roots: readonly Signer[], nowMs: number): Promise<boolean> {
    const { namespace, organization } = this.#options;
    // What an operator wrote is his to repair.
    if (this.#problem !== undefined) throw new AmbitError('CONFIGURATION', this.#problem);
    const stored = this.#stored;
    const before = dataOf(stored);
    const data = caSecretData({ roots, extraRoots: this.#content.extraRoots }, organization, nowMs, before);
    try {
      const written =
        stored === undefined
          ? await this.#client.create(RESOURCES.Secret, namespace, {
              apiVersion: 'v1',
              kind: 'Secret',
              metadata: { name: this.#name, namespace },
              type: CA_SECRET_TYPE,
              data,
            })
          : await this.#client.replace(RESOURCES.Secret, namespace, this.#name, {
              ...stored,
              apiVersion: 'v1',
              kind: 'Secret',
              data,
            });
      this.#take(written);
      return true;
    } catch (thrown) {
      if (!isAlreadyExists(thrown) && !isConflict(thrown) && !isNotFound(thrown)) throw thrown;
      await this.#reload();
      return false;
    }
  }

  onChange(listener: () => void): () => void {
    return this.#listeners.add(listener);
  }

  async close(): Promise<void> {
    await this.#reflector.close();
  }

  /** Reads the Secret now. Rejects with CONFIGURATION when it cannot be used. */
  async #reload(): Promise<void> {
    const found = await this.#client.find(RESOURCES.Secret, this.#options.namespace, this.#name);
    if (found === undefined) this.#gone();
    else this.#take(found);
    if (this.#problem !== undefined) throw new AmbitError('CONFIGURATION', this.#problem);
  }

  /** What the watch tells. */
  #seen(secret: KubeObject | undefined): void {
    if (secret === undefined) this.#gone();
    else if (isNewer(secret, this.#stored)) this.#take(secret);
  }

  #gone(): void {
    const lost = this.#stored !== undefined && this.#content.roots.length > 0;
    this.#stored = undefined;
    this.#problem = undefined;
    if (!lost) return;
    log.warn({ secret: this.#name }, 'the Secret of the CA was deleted; it is written again');
    this.store(this.#content.roots, this.#now()).catch((thrown: unknown) => {
      // The leader tries again with its next maintenance.
      log.error({ reason: toAmbitError(thrown, 'CA').message }, 'the Secret of the CA could not be written');
    });
  }

  #take(secret: KubeObject): void {
    this.#stored = secret;
    try {
      const content = readCaSecret(secret, this.#options.organization, this.description);
      const next: CaMaterial = { signers: content.roots, rootsPem: bundleOf(content), crlPem: undefined };
      const refusal = findMissingOverlap(this.material, next, this.#now());
      if (refusal !== undefined) throw new AmbitError('CONFIGURATION', `${this.description}: ${refusal}`);
      if (outrunsDistribution(this.material, next, this.#now())) {
        log.warn({ secret: this.#name }, 'a root signs that was not distributed before');
      }
      const changed = !sameMaterial(this.material, next);
      this.#content = content;
      this.#problem = undefined;
      this.material = next;
      if (changed) this.#listeners.tell();
    } catch (thrown) {
      const problem = toAmbitError(thrown, 'CONFIGURATION').message;
      if (problem !== this.#problem) log.error({ reason: problem }, 'the Secret of the CA is not used');
      this.#problem = problem;
    }
  }
}

function sameMaterial(a: CaMaterial, b: CaMaterial): boolean {
  const text = (material: CaMaterial): string =>
    material.signers.map(({ id, signsFromMs }) => `${id} ${signsFromMs}`).join();
  return a.rootsPem === b.rootsPem && text(a) === text(b);
}

function dataOf(secret: KubeObject | undefined): Record<string, string> {
  const data: Record<string, string> = {};
  const values: unknown = secret?.data;
  if (typeof values !== 'object' || values === null) return data;
  for (const [key, value] of Object.entries(values)) if (typeof value === 'string') data[key] = value;
  return data;
}

/** A late event must not undo what we have written since. Versions are numbers, and compare as such (meta/v1). */
function isNewer(candidate: KubeObject, known: KubeObject | undefined): boolean {
  const [next, last] = [candidate.metadata.resourceVersion, known?.metadata.resourceVersion ?? ''];
  if (known === undefined || !/^[0-9]+$/.test(next) || !/^[0-9]+$/.test(last)) return next !== last;
  return BigInt(next) > BigInt(last);
}
