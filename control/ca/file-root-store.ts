/**
 * The roots of the CA on disk: keys (mode 0600) in a folder of mode 0700, the list of roots beside them, the public
 * bundle one level up for clients. For one process: nobody else writes here.
 *
 *   <state dir>/ca/roots.json        which roots exist and when each signs; replaced in one step
 *   <state dir>/ca/<id>.key.pem      PKCS#8, mode 0600
 *   <state dir>/root-cert.pem        every certificate that is trusted, mode 0644
 */
import { chmodSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { AmbitError } from '../../core/errors.ts';
import { readIfPresent, writeFileAtomically } from '../files.ts';
import { formatRootList, keyPemOf, makeRoot, parseRootList } from './root-list.ts';
import {
  type CaMaterial,
  ChangeListeners,
  NO_MATERIAL,
  type RootStore,
  type RotatingRoots,
  type Signer,
} from './root-store.ts';

export class FileRootStore implements RootStore, RotatingRoots {
  readonly description: string;
  readonly problem = undefined;
  readonly #folder: string;
  readonly #bundlePath: string;
  readonly #organization: string;
  readonly #listeners = new ChangeListeners();
  #roots: readonly Signer[] = [];
  material: CaMaterial = NO_MATERIAL;

  /** `organization` (the trust domain) must be that of the roots that are there. */
  constructor(stateDir: string, organization: string) {
    this.#folder = join(stateDir, 'ca');
    this.description = `the folder ${this.#folder}`;
    this.#bundlePath = join(stateDir, 'root-cert.pem');
    this.#organization = organization;
  }

  async open(): Promise<void> {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    chmodSync(this.#folder, 0o700);
    const roots = this.#read();
    if (roots.length > 0) writeFileAtomically(this.#bundlePath, bundleOf(roots), 0o644);
    this.#use(roots);
  }

  get rotating(): RotatingRoots {
    return this;
  }

  get roots(): readonly Signer[] {
    return this.#roots;
  }

  stale(): boolean {
    return false;
  }

  make(lifetimeMs: number, signsFromMs: number, nowMs: number): Signer {
    return makeRoot(this.#organization, lifetimeMs, signsFromMs, nowMs);
  }

  async store(roots: readonly Signer[]): Promise<boolean> {
    const before = this.#roots;
    const known = new Set(before.map(({ id }) => id));
    // A key is there before the list names it, and until the list no longer does.
    for (const root of roots)
      if (!known.has(root.id)) writeFileAtomically(this.#keyPath(root.id), keyPemOf(root), 0o600);
    writeFileAtomically(join(this.#folder, 'roots.json'), formatRootList(roots, this.#organization), 0o600);
    writeFileAtomically(this.#bundlePath, bundleOf(roots), 0o644);
    const kept = new Set(roots.map(({ id }) => id));
    for (const { id } of before) if (!kept.has(id)) rmSync(this.#keyPath(id), { force: true });
    this.#use(roots);
    return true;
  }

  onChange(listener: () => void): () => void {
    return this.#listeners.add(listener);
  }

  async close(): Promise<void> {}

  #use(roots: readonly Signer[]): void {
    this.#roots = roots;
    this.material = { signers: roots, rootsPem: bundleOf(roots), crlPem: undefined };
    this.#listeners.tell();
  }

  #read(): Signer[] {
    const path = join(this.#folder, 'roots.json');
    const raw = readIfPresent(path);
    if (raw === undefined) {
      // The bundle is written after the list: where it is, there was a list, and its roots are trusted by somebody.
      if (readIfPresent(this.#bundlePath) !== undefined) {
        throw new AmbitError('CONFIGURATION', `${path} is missing although ${this.#bundlePath} is there`);
      }
      // A key that was written before its list is a first start that did not get far: nothing was ever signed by it.
      for (const name of readdirSync(this.#folder)) if (name.endsWith('.key.pem')) rmSync(join(this.#folder, name));
      return [];
    }
    return parseRootList(raw, this.#organization, (id) => this.#readKey(id), path);
  }

  #readKey(id: string): { pem: string | undefined; where: string } {
    const where = this.#keyPath(id);
    const pem = readIfPresent(where);
    if (pem !== undefined) chmodSync(where, 0o600);
    return { pem, where };
  }

  #keyPath(id: string): string {
    return join(this.#folder, `${id}.key.pem`);
  }
}

function bundleOf(roots: readonly Signer[]): string {
  return roots.map((root) => root.certificatePem).join('');
}
