/** Bounds on memory for bodies that are being received or wait for their turn: of one address, and in all. */
export class BodyBudget {
  readonly #maxBytes: number;
  readonly #maxBytesPerAddress: number;
  readonly #held = new Map<string, number>();
  #total = 0;

  constructor(maxBytes: number, maxBytesPerAddress: number) {
    this.#maxBytes = maxBytes;
    this.#maxBytesPerAddress = maxBytesPerAddress;
  }

  /** False, and nothing is counted, when there is no room for so much more. */
  take(address: string, bytes: number): boolean {
    const held = (this.#held.get(address) ?? 0) + bytes;
    if (held > this.#maxBytesPerAddress || this.#total + bytes > this.#maxBytes) return false;
    this.#held.set(address, held);
    this.#total += bytes;
    return true;
  }

  giveBack(address: string, bytes: number): void {
    const held = (this.#held.get(address) ?? 0) - bytes;
    if (held <= 0) this.#held.delete(address);
    else this.#held.set(address, held);
    this.#total -= bytes;
  }

  /** Bytes that are held now. */
  get held(): number {
    return this.#total;
  }
}
