/**
 * The terminal: lines that stay, and below them a live part that is redrawn in place. Without a terminal there is no live
 * part to redraw; its lines are printed now and then.
 */
const PLAIN_INTERVAL_MS = 10_000;

export class Screen {
  readonly #out: NodeJS.WriteStream;
  #drawn = 0;
  #lastPlain = 0;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  get isTerminal(): boolean {
    return this.#out.isTTY;
  }

  get width(): number {
    return this.isTerminal ? this.#out.columns : 200;
  }

  /** Lines that stay, above the live part. */
  print(...lines: readonly string[]): void {
    this.#erase();
    for (const line of lines) this.#out.write(`${line}\n`);
  }

  /** Replaces the live part; it is cut to the height of the terminal. */
  draw(lines: readonly string[], nowMs: number): void {
    if (!this.isTerminal) {
      if (nowMs - this.#lastPlain < PLAIN_INTERVAL_MS) return;
      this.#lastPlain = nowMs;
      this.#out.write(`${lines.join('\n')}\n\n`);
      return;
    }
    const visible = lines.slice(0, Math.max(1, this.#out.rows - 1));
    const up = this.#drawn > 0 ? `\u001b[${this.#drawn}A` : '';
    this.#out.write(`${up}\r${visible.map((line) => `${line}\u001b[K\n`).join('')}\u001b[J`);
    this.#drawn = visible.length;
  }

  #erase(): void {
    if (!this.isTerminal || this.#drawn === 0) return;
    this.#out.write(`\u001b[${this.#drawn}A\r\u001b[J`);
    this.#drawn = 0;
  }
}
