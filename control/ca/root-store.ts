/**
 * The roots of the CA on disk: keys (mode 0600) in a folder of mode 0700, the list of roots beside them, the public
 * bundle one level up for clients.
 *
 *   <state dir>/ca/roots.json        which roots exist and when each signs; replaced in one step
 *   <state dir>/ca/<id>.key.pem      PKCS#8, mode 0600
 *   <state dir>/root-cert.pem        every certificate that is trusted, mode 0644
 *
 * A damaged or incomplete folder is an error, never a reason to make a new root: that would split the mesh in two.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { decode, integer, list, object, string, text } from '../../core/decoder.ts';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { readIfPresent, writeFileAtomically } from '../files.ts';
import { publicHalf, signRoot } from './certificate.ts';
import type { RootLifetime } from './rotation.ts';

export interface Root extends RootLifetime {
  readonly certificatePem: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly name: { readonly organization: string; readonly commonName: string };
}

/** Clocks of peers may be behind ours by this much. */
export const CLOCK_SKEW_MS = 120_000;

const rootList = object(
  {
    version: integer(1, 1),
    organization: string,
    roots: list(
      object(
        {
          id: text('16 hexadecimal digits', (value) => (/^[0-9a-f]{16}$/.test(value) ? value : undefined)),
          certificatePem: string,
          signsFromMs: integer(0, Number.MAX_SAFE_INTEGER),
        },
        'refuse',
      ),
    ),
  },
  'refuse',
);

export class RootStore {
  readonly #folder: string;
  readonly #bundlePath: string;
  readonly #organization: string;
  #roots: readonly Root[];

  /** Reads what is there. `organization` (the trust domain) must be that of the existing roots. */
  constructor(stateDir: string, organization: string) {
    this.#folder = join(stateDir, 'ca');
    this.#bundlePath = join(stateDir, 'root-cert.pem');
    this.#organization = organization;
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    chmodSync(this.#folder, 0o700);
    this.#roots = this.#read();
  }

  get roots(): readonly Root[] {
    return this.#roots;
  }

  /** Every trusted root, the newest last, as one text. */
  bundlePem(): string {
    return this.#roots.map((root) => root.certificatePem).join('');
  }

  /** Makes a root with its key. It is on disk and in the bundle before this returns. */
  create(lifetimeMs: number, signsFromMs: number, nowMs: number): Root {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const id = randomBytes(8).toString('hex');
    const name = { organization: this.#organization, commonName: `Ambit root ${id}` };
    const validity = { notBeforeMs: nowMs - CLOCK_SKEW_MS, notAfterMs: nowMs + lifetimeMs };
    const { pem } = signRoot({ name, privateKey, publicKey }, validity);
    const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    writeFileAtomically(this.#keyPath(id), key, 0o600);
    const root = this.#root(id, pem, privateKey, signsFromMs);
    this.#write([...this.#roots, root]);
    return root;
  }

  remove(id: string): void {
    this.#write(this.#roots.filter((root) => root.id !== id));
    rmSync(this.#keyPath(id), { force: true });
  }

  #write(roots: readonly Root[]): void {
    const entries = roots.map(({ id, certificatePem, signsFromMs }) => ({ id, certificatePem, signsFromMs }));
    const text = `${JSON.stringify({ version: 1, organization: this.#organization, roots: entries }, undefined, 2)}\n`;
    writeFileAtomically(join(this.#folder, 'roots.json'), text, 0o600);
    this.#roots = roots;
    writeFileAtomically(this.#bundlePath, this.bundlePem(), 0o644);
  }

  #read(): Root[] {
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
    const decoded = decode(rootList, parseJson(raw, path));
    if (!decoded.ok) throw new AmbitError('CONFIGURATION', `${path} is damaged: ${decoded.problems[0]?.reason}`);
    if (decoded.value.organization !== this.#organization) {
      const found = decoded.value.organization;
      throw new AmbitError('CONFIGURATION', `${path} belongs to the trust domain ${found}, not ${this.#organization}`);
    }
    const roots = decoded.value.roots.map((entry) =>
      this.#root(entry.id, entry.certificatePem, this.#readKey(entry.id), entry.signsFromMs),
    );
    writeFileAtomically(this.#bundlePath, roots.map((root) => root.certificatePem).join(''), 0o644);
    return roots;
  }

  #readKey(id: string): KeyObject {
    const path = this.#keyPath(id);
    const pem = readIfPresent(path);
    if (pem === undefined) throw new AmbitError('CONFIGURATION', `the key of a root is missing: ${path}`);
    chmodSync(path, 0o600);
    try {
      return createPrivateKey(pem);
    } catch {
      // The cause is left out on purpose: it could quote the key.
      throw new AmbitError('CONFIGURATION', `the key of a root cannot be read: ${path}`);
    }
  }

  #root(id: string, certificatePem: string, privateKey: KeyObject, signsFromMs: number): Root {
    try {
      const certificate = new X509Certificate(certificatePem);
      if (!certificate.checkPrivateKey(privateKey)) throw new AmbitError('CONFIGURATION', 'key and certificate differ');
      const commonName = /^CN=(.+)$/m.exec(certificate.subject)?.[1] ?? '';
      return {
        id,
        certificatePem,
        privateKey,
        publicKey: publicHalf(privateKey),
        name: { organization: this.#organization, commonName },
        notBeforeMs: certificate.validFromDate.getTime(),
        notAfterMs: certificate.validToDate.getTime(),
        signsFromMs,
      };
    } catch (thrown) {
      throw new AmbitError('CONFIGURATION', `root ${id}: ${toAmbitError(thrown, 'CONFIGURATION').message}`);
    }
  }

  #keyPath(id: string): string {
    return join(this.#folder, `${id}.key.pem`);
  }
}

function parseJson(raw: string, path: string): unknown {
  try {
    return JSON.parse(raw);
  } catch {
    throw new AmbitError('CONFIGURATION', `${path} is not JSON`);
  }
}
