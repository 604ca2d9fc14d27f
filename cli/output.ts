/**
 * How commands speak: tables whose columns line up, JSON with `-o json`, and failures that say what, why and the next
 * thing to type.
 */
import { Option } from 'commander';
import { toAmbitError } from '../core/errors.ts';

export type OutputFormat = 'text' | 'json';

/** The `-o` option every command has. */
export function outputOption(): Option {
  return new Option('-o, --output <format>', 'text for people, json for programs')
    .choices(['text', 'json'])
    .default('text');
}

/** Writes `value` as JSON, or what `render` makes of it. */
export function printResult<T>(format: OutputFormat, value: T, render: (value: T) => string): void {
  process.stdout.write(format === 'json' ? `${JSON.stringify(value, undefined, 2)}\n` : withNewline(render(value)));
}

/**
 * A failure on standard error: what and why (the message), the code, and what to do next. With `-o json` on the command
 * line, the same as one JSON object.
 */
export function printFailure(thrown: unknown): void {
  const error = toAmbitError(thrown, 'USAGE');
  if (wantsJson(process.argv)) {
    const { code, message, row } = error;
    process.stderr.write(`${JSON.stringify({ error: { code, message, next: row.hint } })}\n`);
    return;
  }
  process.stderr.write(`ambit: ${error.message}  [${error.code}]\nnext:  ${error.row.hint}\n`);
}

/**
 * A reader that stops early (`ambit ... | head`) is no failure: the command ends the way Ctrl-C ends it, so that what it
 * started is stopped, and says nothing.
 */
export function endWhenReaderLeaves(): void {
  process.stdout.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.stdout.on('error', () => {});
    process.kill(process.pid, 'SIGINT');
  });
}

/** Rows under their titles; columns as wide as their widest cell, two blanks apart, numbers to the right. */
export function renderTable(titles: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const texts = rows.map((row) => row.map(String));
  const widths = titles.map((title, column) => Math.max(title.length, ...texts.map((row) => row[column]?.length ?? 0)));
  const numeric = titles.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number'));
  const render = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (numeric[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return [titles, ...texts].map(render).join('\n');
}

/** Bytes with a unit, three significant digits. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`;
}

/** A span with a unit: `250 ms`, `12.3 s`, `4 min`, `2.5 h`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  return `${(ms / 3_600_000).toFixed(1)} h`;
}

function wantsJson(argv: readonly string[]): boolean {
  return argv.some(
    (word, index) => word === '-ojson' || word === '--output=json' || (isOption(argv[index - 1]) && word === 'json'),
  );
}

function isOption(word: string | undefined): boolean {
  return word === '-o' || word === '--output';
}

function withNewline(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
