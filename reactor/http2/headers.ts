/**
 * Header lists of HTTP/2 messages (RFC 9113 section 8.2): what is sent is an array of name/value pairs with lower-case
 * names, pseudo header fields first; what is received is a `ReceivedHeaders`, already validated by the engine (names,
 * values, pseudo header rules, RFC 9113 section 8.3) and bounded by the session's limits.
 */

/** Name and value; names in lower case, pseudo header fields (`:method`) before all others. */
export type HeaderPair = readonly [name: string, value: string];
export type HeaderList = readonly HeaderPair[];

/** One received header section, in the order of arrival. */
export class ReceivedHeaders {
  readonly #pairs: HeaderPair[] = [];
  #byteLength = 0;

  /** Size as RFC 9113 section 6.5.2 counts it: name + value + 32 for each field. */
  get byteLength(): number {
    return this.#byteLength;
  }

  get count(): number {
    return this.#pairs.length;
  }

  append(name: string, value: string): void {
    this.#pairs.push([name, value]);
    this.#byteLength += name.length + value.length + 32;
  }

  /** The first value of a field, or undefined. */
  find(name: string): string | undefined {
    for (const pair of this.#pairs) if (pair[0] === name) return pair[1];
    return undefined;
  }

  /** Every value of a field, in order. */
  findAll(name: string): string[] {
    return this.#pairs.filter((pair) => pair[0] === name).map((pair) => pair[1]);
  }

  /** `:status` as a number, or 0 when there is none. */
  get status(): number {
    const text = this.find(':status');
    return text === undefined ? 0 : Number(text);
  }

  toList(): HeaderList {
    return this.#pairs;
  }
}

/** Shared; nothing is ever appended to it. */
export const NO_HEADERS = new ReceivedHeaders();
