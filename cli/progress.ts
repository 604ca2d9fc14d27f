/**
 * Lines of a command that works for a while: on standard output for people; with `-o json` on standard error, so that standard
 * output holds one JSON value, the result.
 */
import type { OutputFormat } from './output.ts';

export type Say = (text: string) => void;

export function progress(format: OutputFormat): Say {
  const stream = format === 'json' ? process.stderr : process.stdout;
  return (text) => stream.write(`${text}\n`);
}

/** The result, for programs only: people have read it line by line. */
export function conclude(format: OutputFormat, result: unknown): void {
  if (format === 'json') process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
}
