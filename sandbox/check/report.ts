/** One line of the check's table. Pure. */
export interface CheckRow {
  /** Stable name, `group.what`. */
  readonly id: string;
  readonly ok: boolean;
  /** What was measured, or what was expected and what came instead. */
  readonly detail: string;
}

const GREEN = '\u001b[32m';
const RED = '\u001b[31;1m';
const RESET = '\u001b[0m';

export function renderCheckRow(row: CheckRow, options: { readonly json: boolean; readonly color: boolean }): string {
  if (options.json) return JSON.stringify(row);
  const mark = row.ok ? 'ok  ' : 'FAIL';
  const painted = options.color ? `${row.ok ? GREEN : RED}${mark}${RESET}` : mark;
  return `  ${painted}  ${row.id.padEnd(28)}  ${row.detail.replaceAll('\n', `\n${' '.repeat(38)}`)}`;
}
