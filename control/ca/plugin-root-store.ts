/**
 * A store for a CA that somebody else plugs in. Nothing is written. A new intermediate is used at once; other trusted
 * roots only when they overlap with those in use. What cannot be used leaves what is in use.
 */
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import { findMissingOverlap, outrunsDistribution } from './overlap.ts';
import { readPluginMaterial } from './plugin-material.ts';
import type { PluginSource, PluginTexts } from './plugin-source.ts';
import { type CaMaterial, ChangeListeners, NO_MATERIAL, type RootStore } from './root-store.ts';

const log = logger('ca');

export class PluginRootStore implements RootStore {
  readonly description: string;
  readonly rotating = undefined;
  readonly #source: PluginSource;
  readonly #now: () => number;
  readonly #listeners = new ChangeListeners();
  #problem: string | undefined;
  material: CaMaterial = NO_MATERIAL;

  /** `now`: milliseconds since the epoch. */
  constructor(source: PluginSource, now: () => number = Date.now) {
    this.#source = source;
    this.#now = now;
    this.description = source.description;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  async open(): Promise<void> {
    this.material = this.#read(await this.#source.read());
    this.#source.watch((texts) => this.#changed(texts));
  }

  onChange(listener: () => void): () => void {
    return this.#listeners.add(listener);
  }

  async close(): Promise<void> {
    await this.#source.close();
  }

  #read(texts: PluginTexts): CaMaterial {
    const material = readPluginMaterial(texts, this.description, this.#now());
    if (material === undefined) throw new AmbitError('CONFIGURATION', `there is no CA in ${this.description}`);
    return material;
  }

  #changed(texts: PluginTexts): void {
    try {
      const next = this.#read(texts);
      const refusal = findMissingOverlap(this.material, next, this.#now());
      if (refusal !== undefined) throw new AmbitError('CONFIGURATION', `${this.description}: ${refusal}`);
      this.#problem = undefined;
      if (sameMaterial(this.material, next)) return;
      const ahead = outrunsDistribution(this.material, next, this.#now());
      this.material = next;
      const [signer] = next.signers;
      const notAfter = signer === undefined ? '' : new Date(signer.notAfterMs).toISOString();
      log.info({ from: this.description, signer: signer?.id, notAfter }, 'another certificate of the CA is in use');
      if (ahead) log.warn('a root signs that was not distributed before: peers refuse it until they have renewed');
      this.#listeners.tell();
    } catch (thrown) {
      const problem = toAmbitError(thrown, 'CONFIGURATION').message;
      if (problem !== this.#problem) log.error({ reason: problem }, 'the CA that is plugged in now is not used');
      this.#problem = problem;
    }
  }
}

function sameMaterial(a: CaMaterial, b: CaMaterial): boolean {
  const text = (material: CaMaterial): string =>
    [...material.signers.flatMap(({ id, chain }) => [id, ...chain]), material.rootsPem, material.crlPem].join('\n');
  return text(a) === text(b);
}
