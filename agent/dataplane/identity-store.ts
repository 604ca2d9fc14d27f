/**
 * The certificates of this worker's pods as TLS contexts, one pair per identity, made when first needed and replaced when
 * the main thread sends new material. Connections that are up keep the context they began with.
 */
import { randomBytes } from 'node:crypto';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { TlsContext, type TlsMaterial } from '../../reactor/tls/context.ts';

const ALPN: readonly string[] = ['h2'];
const NEED_INTERVAL_MS = 1000;

interface Entry {
  material: TlsMaterial | undefined;
  client: TlsContext | undefined;
  server: TlsContext | undefined;
  /** Why there is no certificate. */
  problem: string;
  askedAtMs: number;
}

export class IdentityStore {
  readonly #entries = new Map<SpiffeId, Entry>();
  readonly #askFor: (identity: SpiffeId) => void;
  readonly #nowMs: () => number;
  #ticketKeys: Uint8Array = randomBytes(80);

  /** `askFor` tells the main thread that a connection needs the identity; called at most once a second for each. */
  constructor(nowMs: () => number, askFor: (identity: SpiffeId) => void) {
    this.#nowMs = nowMs;
    this.#askFor = askFor;
  }

  /** New keys of TLS tickets: contexts are made again, tickets of the old keys lead to full handshakes. */
  setTicketKeys(keys: Uint8Array): void {
    this.#ticketKeys = keys;
    for (const entry of this.#entries.values()) freeContexts(entry);
  }

  put(identity: SpiffeId, material: TlsMaterial): void {
    const entry = this.#entry(identity);
    freeContexts(entry);
    entry.material = material;
  }

  /** `detail` is empty when nobody needs the identity any more. */
  remove(identity: SpiffeId, detail: string): void {
    const entry = this.#entry(identity);
    freeContexts(entry);
    entry.material = undefined;
    entry.problem = detail;
    if (detail === '') this.#entries.delete(identity);
  }

  /** True when a handshake can start now; otherwise the main thread has been asked. */
  isReady(identity: SpiffeId): boolean {
    const entry = this.#entry(identity);
    if (entry.material !== undefined) return true;
    const now = this.#nowMs();
    if (now - entry.askedAtMs >= NEED_INTERVAL_MS) {
      entry.askedAtMs = now;
      this.#askFor(identity);
    }
    return false;
  }

  client(identity: SpiffeId): TlsContext | AmbitError {
    const entry = this.#entry(identity);
    if (entry.material === undefined) return this.noCertificate(identity);
    try {
      entry.client ??= TlsContext.create('client', entry.material, this.#options());
      return entry.client;
    } catch (error) {
      return toAmbitError(error, 'NO_CERTIFICATE');
    }
  }

  server(identity: SpiffeId): TlsContext | AmbitError {
    const entry = this.#entry(identity);
    if (entry.material === undefined) return this.noCertificate(identity);
    try {
      entry.server ??= TlsContext.create('server', entry.material, this.#options());
      return entry.server;
    } catch (error) {
      return toAmbitError(error, 'NO_CERTIFICATE');
    }
  }

  noCertificate(identity: SpiffeId): AmbitError {
    const { problem } = this.#entry(identity);
    return new AmbitError('NO_CERTIFICATE', `no certificate for ${identity}${problem === '' ? '' : `: ${problem}`}`);
  }

  close(): void {
    for (const entry of this.#entries.values()) freeContexts(entry);
    this.#entries.clear();
  }

  #options(): { alpn: readonly string[]; ticketKeys: Uint8Array; requirePeerCertificate: true } {
    return { alpn: ALPN, ticketKeys: this.#ticketKeys, requirePeerCertificate: true };
  }

  #entry(identity: SpiffeId): Entry {
    let entry = this.#entries.get(identity);
    if (entry === undefined) {
      entry = {
        material: undefined,
        client: undefined,
        server: undefined,
        problem: '',
        askedAtMs: Number.NEGATIVE_INFINITY,
      };
      this.#entries.set(identity, entry);
    }
    return entry;
  }
}

function freeContexts(entry: Entry): void {
  entry.client?.free();
  entry.server?.free();
  entry.client = undefined;
  entry.server = undefined;
}
