/** The report of `ambit check` for people: groups, one line per finding, the fix below it. Pure. */
import { styleText } from 'node:util';
import { CHECK_GROUPS, type CheckLevel, type CheckResult } from './check.ts';

const SIGNS: Readonly<Record<CheckLevel, string>> = { ok: '√', warning: '!', failed: '×', skipped: '-' };
const COLOURS = { ok: 'green', warning: 'yellow', failed: 'red', skipped: 'gray' } as const;

/** `colours`: for a terminal. */
export function renderReport(results: readonly CheckResult[], colours: boolean): string {
  const width = Math.max(0, ...results.map(({ id }) => id.length));
  const paint = (level: CheckLevel, text: string): string => (colours ? styleText(COLOURS[level], text) : text);
  const lines: string[] = [];
  for (const group of CHECK_GROUPS) {
    const found = results.filter((result) => result.group === group);
    if (found.length === 0) continue;
    lines.push(group);
    for (const { level, id, text, fix, code, hint } of found) {
      const coded = code === undefined ? text : `${text}  ${code}`;
      lines.push(`  ${paint(level, SIGNS[level])} ${id.padEnd(width)}  ${coded}`);
      if (level === 'ok') continue;
      const indent = ' '.repeat(width + 6);
      if (fix !== undefined)
        lines.push(...fix.split('\n').map((line, index) => `${indent}${index === 0 ? 'fix: ' : '     '}${line}`));
      lines.push(`${indent}see ${hint}`);
    }
  }
  lines.push('', summary(results));
  return lines.join('\n');
}

function summary(results: readonly CheckResult[]): string {
  const count = (level: CheckLevel): number => results.filter((result) => result.level === level).length;
  const parts = [`${count('ok')} ok`];
  if (count('warning') > 0) parts.push(`${count('warning')} to look at`);
  if (count('skipped') > 0) parts.push(`${count('skipped')} not looked at`);
  if (count('failed') > 0) parts.push(`${count('failed')} failed`);
  return parts.join(', ');
}
