/** The text of the live view: a table of flows, notes about what is not well, and what to try. Pure. */
import type { Flow } from './flow-table.ts';

export interface ViewInput {
  readonly flows: readonly Flow[];
  /** Sentences about processes that restart and pods that wait. */
  readonly notes: readonly string[];
  readonly color: boolean;
  /** Columns of the terminal; lines are cut to it. */
  readonly width: number;
}

const RED = '\u001b[31;1m';
const GREEN = '\u001b[32m';
const YELLOW = '\u001b[33m';
const DIM = '\u001b[2m';
const RESET = '\u001b[0m';

export const TRY_LINES: readonly string[] = [
  'Try:  1  cli/ambit sandbox exec frontend -- curl -s http://catalog/items',
  '      2  edit sandbox/mesh/policies/deny-legacy.yaml     (uncomment; legacy/cron turns into DENIED)',
  '      3  cli/ambit why legacy/cron shop/stock:8080',
  '      4  cli/ambit sandbox capture                        (what an eavesdropper between the nodes sees)',
  '      5  cli/ambit sandbox kill agent a                   (and watch it come back)',
  'Ctrl-C removes everything.',
];

/** Lines of the live part of the screen, without line feeds. */
export function renderView(input: ViewInput): string[] {
  const header = ['FROM', 'TO', 'PATH', 'IDENTITY', 'RATE', 'p50'];
  const rows = input.flows.map(cells);
  const widths = header.map((title, column) =>
    Math.max(MINIMUM_WIDTHS[column] ?? 0, title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const paint = (color: string, text: string): string =>
    input.color && color !== '' ? `${color}${text}${RESET}` : text;
  const lines = [paint(DIM, cut(`  ${formatRow(header, widths)}`, input.width))];
  input.flows.forEach((flow, index) => {
    const text = cut(`  ${formatRow(rows[index] ?? [], widths)}`, input.width);
    lines.push(paint(COLORS[flow.path], text));
  });
  if (input.flows.length === 0) lines.push('  waiting for the first connections');
  for (const flow of input.flows) {
    if (flow.detail === undefined) continue;
    lines.push(paint(COLORS[flow.path], cut(`  ${flow.from} -> ${flow.to}: ${flow.detail}`, input.width)));
  }
  for (const note of input.notes) lines.push(paint(YELLOW, cut(`  ! ${note}`, input.width)));
  return lines;
}

/** Wide enough for the usual names, so that the columns stay where they are while rows come and go. */
const MINIMUM_WIDTHS = [20, 22, 9, 19, 7, 7];

const COLORS: Readonly<Record<Flow['path'], string>> = {
  hbone: GREEN,
  'same node': GREEN,
  plaintext: '',
  DENIED: RED,
  FAILED: RED,
};

function cells(flow: Flow): string[] {
  const end = (name: string, node: string): string => (node === '' ? name : `${name} (${node})`);
  return [
    end(flow.from, flow.fromNode),
    end(flow.to, flow.toNode),
    flow.path,
    flow.identity,
    `${flow.perSecond < 10 ? Number(flow.perSecond.toFixed(1)) : Math.round(flow.perSecond)}/s`,
    flow.p50Ms === undefined ? '' : `${flow.p50Ms.toFixed(1)} ms`,
  ];
}

function formatRow(row: readonly string[], widths: readonly number[]): string {
  return row
    .map((cell, column) => (column >= 4 ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
    .join('  ')
    .trimEnd();
}

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}
