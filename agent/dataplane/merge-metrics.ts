/**
 * Counters must never go back, also when a worker dies and its successor begins at zero: what the dead one had counted at
 * the last reading is added to what the new one counts. Pure.
 */
import type { TrafficSeriesView, WorkerGauge, WorkerMetrics } from './messages.ts';

/** `current` with the counters of `former`; gauges are those of `current`. */
export function mergeMetrics(former: WorkerMetrics, current: WorkerMetrics): WorkerMetrics {
  return {
    worker: current.worker,
    traffic: mergeTraffic(former.traffic, current.traffic),
    refused: mergeRefused(former.refused, current.refused),
    gauges: mergeGauges(former.gauges, current.gauges),
  };
}

function mergeTraffic(
  former: readonly TrafficSeriesView[],
  current: readonly TrafficSeriesView[],
): TrafficSeriesView[] {
  const merged = new Map<string, TrafficSeriesView>();
  for (const series of [...former, ...current]) {
    const key = series.labels.join('\u0000');
    const sum = merged.get(key);
    merged.set(
      key,
      sum === undefined
        ? series
        : {
            labels: series.labels,
            opened: sum.opened + series.opened,
            closed: sum.closed + series.closed,
            failed: sum.failed + series.failed,
            received: sum.received + series.received,
            sent: sum.sent + series.sent,
          },
    );
  }
  return [...merged.values()];
}

function mergeRefused(former: WorkerMetrics['refused'], current: WorkerMetrics['refused']): WorkerMetrics['refused'] {
  const merged = new Map<string, WorkerMetrics['refused'][number]>();
  for (const entry of [...former, ...current]) {
    const key = `${entry.reason}|${entry.direction}`;
    merged.set(key, { ...entry, count: entry.count + (merged.get(key)?.count ?? 0) });
  }
  return [...merged.values()];
}

function mergeGauges(former: readonly WorkerGauge[], current: readonly WorkerGauge[]): WorkerGauge[] {
  const counted = new Map<string, number>();
  for (const entry of former) if (entry.kind === 'counter') counted.set(keyOf(entry), entry.value);
  return current.map((entry) => ({ ...entry, value: entry.value + (counted.get(keyOf(entry)) ?? 0) }));
}

function keyOf({ name, kind, labels }: WorkerGauge): string {
  return JSON.stringify([name, kind, labels]);
}
