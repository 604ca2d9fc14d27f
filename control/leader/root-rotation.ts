/** Looks after the roots of the CA: what is due in their rotation is done by the elected replica alone. */
import type { CertificateAuthority } from '../ca/authority.ts';
import { QueuedTask } from './queued-task.ts';

const KEY = 'roots';
const INTERVAL_MS = 30_000;

export class RootRotation extends QueuedTask {
  readonly name = 'roots';
  readonly #authority: CertificateAuthority;
  #unsubscribe: (() => void) | undefined;

  constructor(authority: CertificateAuthority) {
    super();
    this.#authority = authority;
  }

  protected begin(): void {
    // A Secret that was deleted or edited is looked at at once.
    this.#unsubscribe = this.#authority.store.onChange(() => this.addAfter(KEY, 1000));
    this.add(KEY);
  }

  override async stop(): Promise<void> {
    this.#unsubscribe?.();
    await super.stop();
  }

  protected async run(): Promise<void> {
    await this.#authority.maintain();
    this.addAfter(KEY, INTERVAL_MS);
  }
}
