/**
 * The traffic counters of one worker: plain numbers per label tuple, read on scrape. A connection resolves its tuple
 * once and then adds to an object. The number of tuples is bounded; beyond it connections are counted under a tuple that
 * names only the reporter.
 */
import type { ResponseFlag } from '../../core/errors.ts';
import type { Service } from '../state/service.ts';
import type { Workload } from '../state/workload.ts';
import type { TrafficSeriesView } from './messages.ts';
import {
  RESPONSE_FLAGS_INDEX,
  type Reporter,
  type SecurityPolicy,
  type TrafficEnd,
  trafficLabels,
} from './traffic-labels.ts';

/** Tuples one worker keeps. */
export const MAX_TRAFFIC_SERIES = 20_000;

export class TrafficSeries {
  readonly labels: readonly string[];
  opened = 0;
  closed = 0;
  failed = 0;
  /** Client to server. */
  received = 0;
  /** Server to client. */
  sent = 0;
  /** The same tuple with another `response_flags`. */
  #flagged: Map<ResponseFlag, TrafficSeries> | undefined;

  constructor(labels: readonly string[]) {
    this.labels = labels;
  }

  flagged(flag: ResponseFlag, create: (labels: readonly string[]) => TrafficSeries): TrafficSeries {
    if (flag === '-') return this;
    this.#flagged ??= new Map();
    let series = this.#flagged.get(flag);
    if (series === undefined) {
      series = create(this.labels.with(RESPONSE_FLAGS_INDEX, flag));
      this.#flagged.set(flag, series);
    }
    return series;
  }
}

/** A resolved tuple and the records it was resolved from; an update of any of them replaces the object, hence the tuple. */
interface CachedTuple {
  readonly source: Workload | undefined;
  readonly destination: Workload | undefined;
  readonly service: Service | undefined;
  readonly series: TrafficSeries;
}

export class TrafficMetrics {
  readonly #series = new Map<string, TrafficSeries>();
  #cache = new Map<string, CachedTuple>();
  readonly #create = (labels: readonly string[]): TrafficSeries => this.#seriesOf(labels);

  /** The counters of a connection between two ends. */
  resolve(
    reporter: Reporter,
    source: TrafficEnd,
    destination: TrafficEnd,
    service: Service | undefined,
    security: SecurityPolicy,
  ): TrafficSeries {
    if (source.baggage !== undefined || destination.baggage !== undefined) {
      return this.#seriesOf(trafficLabels(reporter, source, destination, service, security));
    }
    const key = `${reporter}|${security}|${source.workload?.uid}|${destination.workload?.uid}|${service?.key}|${source.identity}|${destination.identity}`;
    const cached = this.#cache.get(key);
    if (
      cached !== undefined &&
      cached.source === source.workload &&
      cached.destination === destination.workload &&
      cached.service === service
    ) {
      return cached.series;
    }
    const series = this.#seriesOf(trafficLabels(reporter, source, destination, service, security));
    if (this.#cache.size >= MAX_TRAFFIC_SERIES) this.#cache = new Map();
    this.#cache.set(key, { source: source.workload, destination: destination.workload, service, series });
    return series;
  }

  /** Counts the end of a connection under the flag of its error. */
  close(series: TrafficSeries, flag: ResponseFlag): void {
    const closing = series.flagged(flag, this.#create);
    closing.closed++;
    if (flag !== '-') closing.failed++;
  }

  view(): TrafficSeriesView[] {
    return Array.from(this.#series.values(), ({ labels, opened, closed, failed, received, sent }) => {
      return { labels, opened, closed, failed, received, sent };
    });
  }

  #seriesOf(labels: readonly string[]): TrafficSeries {
    const key = labels.join('\u0000');
    const existing = this.#series.get(key);
    if (existing !== undefined) return existing;
    if (this.#series.size >= MAX_TRAFFIC_SERIES) return this.#overflow(labels);
    const series = new TrafficSeries(labels);
    this.#series.set(key, series);
    return series;
  }

  #overflow(labels: readonly string[]): TrafficSeries {
    const reporter: Reporter = labels[0] === 'source' ? 'source' : 'destination';
    const nobody: TrafficEnd = { workload: undefined, identity: undefined };
    const tuple = trafficLabels(reporter, nobody, nobody, undefined, 'unknown');
    const key = tuple.join('\u0000');
    const series = this.#series.get(key) ?? new TrafficSeries(tuple);
    this.#series.set(key, series);
    return series;
  }
}
