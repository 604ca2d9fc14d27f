/**
 * Every sandbox the runtime told of, whether its pod is in the mesh or not, in `<run dir>/sandboxes`: one file per pod, so
 * that a pod that is labelled later, also after a restart of the agent, is found in the namespace the runtime named.
 *
 * A record proves nothing by itself: the namespace is verified when it is used. A file that cannot be read is deleted.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Attachment, decodeAttachment } from '../../core/enrolment/cni-wire.ts';
import { AmbitError } from '../../core/errors.ts';
import { type IpAddress, parseIp } from '../../core/ip.ts';
import { logger } from '../../core/log.ts';
import { MAX_SANDBOXES } from './limits.ts';
import { fieldOf, listOf } from './object-fields.ts';
import { type NetnsIdentity, pathStillLeadsTo } from './pod-netns.ts';
import { isSafeUid } from './stored-pod.ts';

const log = logger('enrol');

export interface Sandbox {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly attachment: Attachment;
  readonly netns: NetnsIdentity & { readonly path: string };
  readonly ips: readonly IpAddress[];
}

const VERSION = 1;

export class SandboxStore {
  readonly #folder: string;
  readonly #sandboxes = new Map<string, Sandbox>();
  /** File operations run one after another. */
  #files: Promise<void> = Promise.resolve();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Reads what a former run left; records of namespaces that are gone are dropped. */
  static async open(runDirectory: string): Promise<SandboxStore> {
    const store = new SandboxStore(join(runDirectory, 'sandboxes'));
    await mkdir(store.#folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(store.#folder)) await store.#load(name);
    return store;
  }

  find(uid: string): Sandbox | undefined {
    return this.#sandboxes.get(uid);
  }

  /** Every record, for exclusion: a namespace belongs to the pod it was announced for. */
  all(): Iterable<Sandbox> {
    return this.#sandboxes.values();
  }

  async save(sandbox: Sandbox): Promise<void> {
    if (!isSafeUid(sandbox.uid)) throw new AmbitError('USAGE', 'a UID that cannot be a file name');
    this.#sandboxes.delete(sandbox.uid);
    this.#sandboxes.set(sandbox.uid, sandbox);
    const [oldest] = this.#sandboxes.keys();
    if (this.#sandboxes.size > MAX_SANDBOXES && oldest !== undefined) await this.remove(oldest);
    const file = this.#fileOf(sandbox.uid);
    await this.#onDisk(async () => {
      await writeFile(`${file}.tmp`, JSON.stringify({ version: VERSION, ...sandbox }), { mode: 0o600 });
      await rename(`${file}.tmp`, file);
    });
  }

  async remove(uid: string): Promise<void> {
    this.#sandboxes.delete(uid);
    await this.#onDisk(() => rm(this.#fileOf(uid), { force: true }));
  }

  findByAttachment({ containerId, ifName }: Attachment): Sandbox | undefined {
    for (const sandbox of this.#sandboxes.values()) {
      if (sandbox.attachment.containerId === containerId && sandbox.attachment.ifName === ifName) return sandbox;
    }
    return undefined;
  }

  /** Forgets sandboxes whose namespace is gone. */
  async sweep(): Promise<void> {
    for (const { uid, netns } of [...this.#sandboxes.values()]) {
      if (!pathStillLeadsTo(netns.path, netns)) await this.remove(uid);
    }
  }

  /** What fails is logged: a record is a convenience, and no reason to hold a pod back. */
  #onDisk(work: () => Promise<void>): Promise<void> {
    this.#files = this.#files.then(work).catch((error: Error) => {
      log.warn({ reason: error.message }, 'the record of a sandbox could not be kept on disk');
    });
    return this.#files;
  }

  async #load(name: string): Promise<void> {
    const file = join(this.#folder, name);
    try {
      if (!name.endsWith('.json')) throw new AmbitError('DECODE', 'left behind by an interrupted save');
      const sandbox = readSandbox(JSON.parse(await readFile(file, 'utf8')));
      if (!pathStillLeadsTo(sandbox.netns.path, sandbox.netns)) throw new AmbitError('DECODE', 'its namespace is gone');
      this.#sandboxes.set(sandbox.uid, sandbox);
    } catch (thrown) {
      log.debug({ file, reason: thrown instanceof Error ? thrown.message : '' }, 'the record of a sandbox was dropped');
      await rm(file, { force: true });
    }
  }

  #fileOf(uid: string): string {
    return join(this.#folder, `${uid}.json`);
  }
}

/** Throws `DECODE` for what is no record. */
export function readSandbox(value: unknown): Sandbox {
  if (fieldOf(value, 'version') !== VERSION) throw new AmbitError('DECODE', `version must be ${VERSION}`);
  const netns = fieldOf(value, 'netns');
  const uid = required(value, 'uid');
  if (!isSafeUid(uid)) throw new AmbitError('DECODE', 'uid must be a UID');
  return {
    uid,
    namespace: required(value, 'namespace'),
    name: required(value, 'name'),
    attachment: decodeAttachment(fieldOf(value, 'attachment')),
    netns: { path: required(netns, 'path'), device: required(netns, 'device'), inode: required(netns, 'inode') },
    ips: listOf(value, 'ips').flatMap((ip) => (typeof ip === 'string' ? (parseIp(ip) ?? []) : [])),
  };
}

function required(parent: unknown, key: string): string {
  const value = fieldOf(parent, key);
  if (typeof value !== 'string' || value === '' || value.length > 4096)
    throw new AmbitError('DECODE', `${key} must be text`);
  return value;
}
