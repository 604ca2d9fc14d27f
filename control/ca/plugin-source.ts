/**
 * Where a plugged-in CA lies: a mounted folder, or a Secret that is watched. Both tell the texts in it by name, at once
 * and after every change.
 */
import { type FSWatcher, readdirSync, watch } from 'node:fs';
import { join } from 'node:path';
import { toAmbitError } from '../../core/errors.ts';
import { logger } from '../../core/log.ts';
import type { KubeClient } from '../../kube/client.ts';
import { kubeObject } from '../../kube/object.ts';
import { Reflector } from '../../kube/reflector.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { readIfPresent } from '../files.ts';
import { PLUGIN_FILES } from './plugin-material.ts';
import { secretTexts } from './secret-layout.ts';

export const PLUGIN_SECRET_NAME = 'cacerts';

export type PluginTexts = ReadonlyMap<string, string>;

export interface PluginSource {
  /** As messages name it. */
  readonly description: string;
  /** What is there now; empty: nothing. Rejects with CONFIGURATION or KUBERNETES_API. */
  read(): Promise<PluginTexts>;
  /** Begins to tell of changes, each time with all texts. May tell the same again. */
  watch(changed: (texts: PluginTexts) => void): void;
  close(): Promise<void>;
}

const log = logger('ca');

/** After a change the folder is left alone this long: a mount is replaced in several steps. */
const DEBOUNCE_MS = 100;
/** Where notifications are lost (network file systems), the folder is looked at anyway. */
const POLL_MS = 10_000;

export class PluginFolder implements PluginSource {
  readonly description: string;
  readonly #folder: string;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #debounce: NodeJS.Timeout | undefined;

  constructor(folder: string) {
    this.#folder = folder;
    this.description = `the folder ${folder}`;
  }

  async read(): Promise<PluginTexts> {
    return this.#readAll();
  }

  watch(changed: (texts: PluginTexts) => void): void {
    const look = (): void => {
      try {
        changed(this.#readAll());
      } catch (thrown) {
        log.error({ reason: toAmbitError(thrown, 'CONFIGURATION').message }, 'the folder of the CA cannot be read');
      }
    };
    const soon = (): void => {
      clearTimeout(this.#debounce);
      this.#debounce = setTimeout(look, DEBOUNCE_MS);
    };
    try {
      this.#watcher = watch(this.#folder, soon);
      this.#watcher.on('error', () => undefined);
    } catch (thrown) {
      log.warn({ reason: toAmbitError(thrown, 'CONFIGURATION').message }, 'the folder of the CA is not watched');
    }
    this.#poll = setInterval(look, POLL_MS);
    // What changed between `read` and here.
    soon();
  }

  async close(): Promise<void> {
    this.#watcher?.close();
    clearInterval(this.#poll);
    clearTimeout(this.#debounce);
  }

  #readAll(): PluginTexts {
    const texts = new Map<string, string>();
    for (const name of PLUGIN_FILES) {
      const text = readIfPresent(join(this.#folder, name));
      if (text !== undefined) texts.set(name, text);
    }
    return texts;
  }
}

/** True when the folder exists and holds anything: an empty mount is no CA. */
export function isPluginFolder(folder: string): boolean {
  try {
    return readdirSync(folder).some((name) => PLUGIN_FILES.includes(name));
  } catch {
    return false;
  }
}

export class PluginSecret implements PluginSource {
  readonly description: string;
  readonly #client: KubeClient;
  readonly #namespace: string;
  readonly #name: string;
  #reflector: Reflector<PluginTexts | undefined> | undefined;

  constructor(client: KubeClient, namespace: string, name = PLUGIN_SECRET_NAME) {
    this.#client = client;
    this.#namespace = namespace;
    this.#name = name;
    this.description = `the Secret ${namespace}/${name}`;
  }

  async read(): Promise<PluginTexts> {
    const found = await this.#client.find(RESOURCES.Secret, this.#namespace, this.#name);
    return found === undefined ? new Map() : secretTexts(found, this.description);
  }

  watch(changed: (texts: PluginTexts) => void): void {
    const tell = (texts: PluginTexts | undefined): void => {
      if (texts !== undefined) changed(texts);
    };
    const selection = { namespace: this.#namespace, fieldSelector: `metadata.name=${this.#name}` };
    this.#reflector = new Reflector(this.#client, RESOURCES.Secret, selection, {
      read: (item: unknown) => this.#texts(item),
      replaced: (items: readonly (PluginTexts | undefined)[]) => tell(items.length === 0 ? new Map() : items[0]),
      changed: tell,
      removed: () => changed(new Map()),
      degraded: (reason: string | undefined) => {
        if (reason !== undefined) log.warn({ reason }, 'the Secret of the CA cannot be watched');
      },
    });
    this.#reflector.start();
  }

  async close(): Promise<void> {
    await this.#reflector?.close();
  }

  #texts(item: unknown): PluginTexts | undefined {
    try {
      return secretTexts(kubeObject(item) ?? {}, this.description);
    } catch (thrown) {
      log.error({ reason: toAmbitError(thrown, 'CONFIGURATION').message }, 'the Secret of the CA cannot be read');
      return undefined;
    }
  }
}
