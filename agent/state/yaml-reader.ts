/**
 * Reads plain values (from YAML) field by field with their path, collecting every mistake instead of stopping at the
 * first. Fields nobody asked for are mistakes too: a misspelt field of a policy must not quietly mean nothing.
 */

/** Where a value is and what has been found wrong so far. */
export class YamlNode {
  readonly value: unknown;
  readonly path: string;
  readonly problems: string[];

  constructor(value: unknown, path: string, problems: string[]) {
    this.value = value;
    this.path = path;
    this.problems = problems;
  }

  get isPresent(): boolean {
    return this.value !== undefined && this.value !== null;
  }

  /** Notes that the value is not `expected`. */
  problem(expected: string): void {
    this.problems.push(`${this.path || 'document'}: expected ${expected}, found ${show(this.value)}`);
  }

  /** The fields of a mapping, each of which must be in `allowed`; those in `required` must be there. */
  fields<Key extends string>(allowed: readonly Key[], required: readonly Key[] = []): (key: Key) => YamlNode {
    const entries = new Map<string, YamlNode>();
    if (!isMapping(this.value)) this.problem('a mapping');
    else
      for (const [key, value] of Object.entries(this.value)) {
        const child = new YamlNode(value, this.path === '' ? key : `${this.path}.${key}`, this.problems);
        if (allowed.some((name) => name === key)) entries.set(key, child);
        else this.problems.push(`${child.path}: unknown field (known: ${allowed.join(', ')})`);
      }
    const missing = (key: string) => new YamlNode(undefined, `${this.path}.${key}`, this.problems);
    if (isMapping(this.value))
      for (const key of required) if (entries.get(key)?.isPresent !== true) missing(key).problem('a value');
    return (key) => entries.get(key) ?? missing(key);
  }

  /** Key and value of each entry of a mapping with free keys; absent is empty. */
  entries(): [string, YamlNode][] {
    if (!this.isPresent) return [];
    if (!isMapping(this.value)) {
      this.problem('a mapping');
      return [];
    }
    return Object.entries(this.value).map(([key, value]) => [key, this.#child(key, value)]);
  }

  /** The elements of a list; absent is empty. */
  list(): YamlNode[] {
    if (!this.isPresent) return [];
    if (!Array.isArray(this.value)) {
      this.problem('a list');
      return [];
    }
    return this.value.map((value: unknown, index) => this.#child(`${index}`, value));
  }

  /** Text; absent is empty. */
  text(): string {
    if (!this.isPresent) return '';
    if (typeof this.value === 'string') return this.value;
    this.problem('text');
    return '';
  }

  boolean(): boolean {
    if (this.isPresent && typeof this.value !== 'boolean') this.problem('true or false');
    return this.value === true;
  }

  /** A whole number from 0 to `maximum`; absent is `fallback`. */
  number(maximum: number, fallback = 0): number {
    if (!this.isPresent) return fallback;
    if (typeof this.value === 'number' && Number.isInteger(this.value) && this.value >= 0 && this.value <= maximum)
      return this.value;
    this.problem(`a whole number from 0 to ${maximum}`);
    return fallback;
  }

  /** What `table` gives for the text; absent is `fallback`. */
  choice<Value>(table: Readonly<Record<string, Value>>, fallback: Value): Value {
    if (!this.isPresent) return fallback;
    const value = typeof this.value === 'string' && Object.hasOwn(table, this.value) ? table[this.value] : undefined;
    if (value === undefined) this.problem(`one of ${Object.keys(table).join(', ')}`);
    return value ?? fallback;
  }

  /** What `parse` makes of the text, or undefined with a problem noted. */
  parsed<Value>(expected: string, parse: (text: string) => Value | undefined): Value | undefined {
    const value = typeof this.value === 'string' ? parse(this.value) : undefined;
    if (value === undefined) this.problem(expected);
    return value;
  }

  #child(key: string, value: unknown): YamlNode {
    return new YamlNode(value, `${this.path}[${key}]`, this.problems);
  }
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value)?.slice(0, 80);
}
