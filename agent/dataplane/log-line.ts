/**
 * One line of the logs that workers write themselves (log-writer.ts), as JSON or as tab-separated text. Every value that a
 * peer can influence is quoted and escaped by JSON's rules, so one event is always one line.
 */
export type LogFormat = 'json' | 'plain';
export type LogLevel = 'info' | 'warn' | 'error';

/** Collects `name=value` pairs in one of the two formats. */
export class LogLine {
  readonly #json: boolean;
  #text: string;

  /** `scope` and `message` are constants of the code. */
  constructor(format: LogFormat, level: LogLevel, scope: 'access' | 'rbac', message: string, now: Date) {
    this.#json = format === 'json';
    this.#text = this.#json
      ? `{"level":"${level}","time":"${now.toISOString()}","scope":"${scope}","message":"${message}"`
      : `${now.toISOString()}\t${level}\t${scope}\t${message}\t`;
  }

  /** Text that may contain anything. */
  quoted(name: string, value: string | undefined): void {
    if (value !== undefined && value !== '') this.#raw(name, escapeText(value));
  }

  /** An address or a word from a closed set: bare in the plain format. */
  word(name: string, value: string): void {
    this.#raw(name, this.#json ? `"${value}"` : value);
  }

  number(name: string, value: number): void {
    this.#raw(name, String(value));
  }

  #raw(name: string, value: string): void {
    if (this.#json) this.#text += `,"${name}":${value}`;
    else this.#text += this.#text.endsWith('\t') ? `${name}=${value}` : ` ${name}=${value}`;
  }

  /** The finished line with its line feed. */
  end(): string {
    return this.#json ? `${this.#text}}\n` : `${this.#text}\n`;
  }
}

/** Printable ASCII without quote and backslash: nearly every value. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** JSON string of any text; also U+2028/2029 and DEL are escaped so that no viewer breaks the line. */
function escapeText(value: string): string {
  if (PLAIN.test(value)) return `"${value}"`;
  return JSON.stringify(value).replace(/[\u007f-\u009f\u2028\u2029]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
