/** Decodes the lines in which the demo application reports its calls. Total: any other line is an empty list. */
import { isRecord } from '../core/decoder.ts';
import type { CallReport } from './apps/call-statistics.ts';

export function parseCallReports(line: string): CallReport[] {
  if (!line.startsWith('{"calls"')) return [];
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return [];
  }
  const list: readonly unknown[] = isRecord(value) && Array.isArray(value.calls) ? value.calls : [];
  return list.flatMap((entry) => {
    if (!isRecord(entry) || typeof entry.url !== 'string' || typeof entry.pod !== 'string') return [];
    const { url, pod, count, p50Ms } = entry;
    return [{ url, pod, count: Number(count), p50Ms: Number(p50Ms) }];
  });
}
