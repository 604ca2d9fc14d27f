/** What `ambit analyze` prints: findings grouped by object, worst first, each with its effect and its remedy. Pure. */
import { describeObject, type Finding, type Severity } from '../../control/validation/finding.ts';

export interface AnalysisReport {
  readonly findings: readonly (Finding & { readonly where?: string })[];
  readonly errors: number;
  readonly warnings: number;
  readonly notes: number;
  readonly objects: number;
  /** Files that were read; absent for a cluster. */
  readonly files?: number;
  /** Kinds that may not be read in the cluster. */
  readonly notRead: readonly string[];
}

const MARKS: Readonly<Record<Severity, string>> = { error: '×', warning: '!', info: '·' };
const COLOURS: Readonly<Record<Severity, string>> = { error: '31', warning: '33', info: '2' };
const INDENT = ' '.repeat(13);

export function makeReport(
  findings: readonly Finding[],
  facts: Pick<AnalysisReport, 'objects' | 'files' | 'notRead'>,
  where: ReadonlyMap<string, string> = new Map(),
): AnalysisReport {
  const count = (severity: Severity): number => findings.filter((found) => found.severity === severity).length;
  return {
    findings: findings.map((found) => {
      const at = where.get(found.object);
      return at === undefined ? found : { ...found, where: at };
    }),
    errors: count('error'),
    warnings: count('warning'),
    notes: count('info'),
    ...facts,
  };
}

/** 0: nothing, or only notes; 1: warnings; 2: errors. */
export function exitCodeOf({ errors, warnings }: AnalysisReport): 0 | 1 | 2 {
  if (errors > 0) return 2;
  return warnings > 0 ? 1 : 0;
}

export function renderReport(report: AnalysisReport, colours: boolean): string {
  const lines: string[] = [];
  for (const [object, findings] of Map.groupBy(report.findings, ({ object: key }) => key)) {
    const where = findings[0]?.where;
    lines.push(where === undefined ? describeObject(object) : `${describeObject(object)}  (${where})`);
    for (const found of findings) lines.push(...renderFinding(found, colours));
    lines.push('');
  }
  lines.push(summary(report));
  if (report.notRead.length > 0) {
    lines.push(`not checked: you may not list ${report.notRead.join(', ')}`);
  }
  return lines.join('\n');
}

function renderFinding(
  { severity, code, field, message, effect, fix, companion }: Finding,
  colours: boolean,
): string[] {
  const mark = colours ? `\u001b[${COLOURS[severity]}m${MARKS[severity]}\u001b[0m` : MARKS[severity];
  const lines = [
    `  ${mark} ${code}  ${field === '' ? '' : `${field} `}${message}`,
    `${INDENT}at run time: ${effect}`,
    `${INDENT}fix: ${fix}`,
  ];
  if (companion !== undefined) {
    lines.push(`${INDENT}companion policy:`);
    lines.push(
      ...companion
        .trimEnd()
        .split('\n')
        .map((line) => `${INDENT}  ${line}`),
    );
  }
  return lines;
}

function summary({ errors, warnings, notes, objects, files }: AnalysisReport): string {
  const source = files === undefined ? 'of the cluster' : `in ${plural(files, 'file')}`;
  const read = `${plural(objects, 'object')} ${source}`;
  if (errors + warnings + notes === 0) return `√ nothing found in ${read}`;
  return `${plural(errors, 'error')}, ${plural(warnings, 'warning')}, ${plural(notes, 'note')} in ${read}`;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
