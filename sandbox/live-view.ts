/** Redraws the view of a running sandbox once a second until it is told to stop. */
import type { Sandbox } from './sandbox.ts';
import type { Screen } from './screen.ts';
import { renderView, TRY_LINES } from './view.ts';

const INTERVAL_MS = 1000;
const SHOWN_EXITS = 3;
const EXIT_SHOWN_MS = 15_000;

export class LiveView {
  readonly #sandbox: Sandbox;
  readonly #screen: Screen;
  #exitsSeen = 0;
  #exitsChangedAt = 0;

  constructor(sandbox: Sandbox, screen: Screen) {
    this.#sandbox = sandbox;
    this.#screen = screen;
  }

  async run(signal: AbortSignal): Promise<void> {
    if (!this.#screen.isTerminal) this.#screen.print('', ...TRY_LINES, '');
    while (!signal.aborted) {
      this.#draw();
      await new Promise<void>((resolve) => {
        const finish = (): void => {
          clearTimeout(timer);
          signal.removeEventListener('abort', finish);
          resolve();
        };
        const timer = setTimeout(finish, INTERVAL_MS);
        signal.addEventListener('abort', finish);
      });
    }
  }

  #draw(): void {
    const nowMs = Date.now();
    const view = renderView({
      flows: this.#sandbox.flows.rows(nowMs),
      notes: this.#notes(nowMs),
      color: this.#screen.isTerminal,
      width: this.#screen.width,
    });
    this.#screen.draw(this.#screen.isTerminal ? ['', ...view, '', ...TRY_LINES] : view, nowMs);
  }

  #notes(nowMs: number): string[] {
    const { unexpectedExits, kubelet } = this.#sandbox;
    if (unexpectedExits.length !== this.#exitsSeen) {
      this.#exitsSeen = unexpectedExits.length;
      this.#exitsChangedAt = nowMs;
    }
    const notes = nowMs - this.#exitsChangedAt < EXIT_SHOWN_MS ? unexpectedExits.slice(-SHOWN_EXITS) : [];
    const waiting = kubelet.pods.flatMap((pod) =>
      pod.state === 'waiting' ? [`${pod.key} waits for its network: ${pod.lastError?.message ?? ''}`] : [],
    );
    return [...notes, ...waiting, ...kubelet.files.problems];
  }
}
