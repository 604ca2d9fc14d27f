/** The start of the sandbox, step by step: what is being done now, then how it went and how long it took. */
import { toAmbitError } from '../core/errors.ts';
import type { Screen } from './screen.ts';

const SHOW_DURATION_FROM_MS = 1000;

export class Steps {
  readonly #screen: Screen;
  readonly #quiet: boolean;

  constructor(screen: Screen, quiet: boolean) {
    this.#screen = screen;
    this.#quiet = quiet;
  }

  /** Waits for the work and prints its line; rejects as the work does, after saying which step it was. */
  async run(name: string, work: Promise<string>): Promise<void> {
    const startedAt = Date.now();
    const line = (mark: string, detail: string): string => `  [${mark}] ${name.padEnd(20)}  ${detail}`;
    if (this.#screen.isTerminal && !this.#quiet) this.#screen.draw([line('..', '')], startedAt);
    try {
      const detail = await work;
      const took = Date.now() - startedAt;
      if (!this.#quiet)
        this.#screen.print(
          line('ok', took < SHOW_DURATION_FROM_MS ? detail : `${detail}  (${(took / 1000).toFixed(1)} s)`),
        );
    } catch (error) {
      if (!this.#quiet) this.#screen.print(line('--', toAmbitError(error, 'SANDBOX').message.split('\n')[0] ?? ''));
      throw error;
    }
  }
}
