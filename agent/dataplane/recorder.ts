/**
 * Opens and ends the records of one worker: registry of live connections, access log, traffic counters, counters of
 * refusals. The one place where a connection becomes visible to an operator.
 */
import type { AmbitError, ErrorCode } from '../../core/errors.ts';
import type { EventLoop } from '../../reactor/loop.ts';
import { formatAccessLine, formatRefusalLine, type RefusalEntry } from './access-log.ts';
import { ConnectionRecord, type Cuttable, type RecordFacts } from './connection-record.ts';
import type { LocalPod } from './local-pod.ts';
import type { LogFormat } from './log-line.ts';
import type { LogWriter } from './log-writer.ts';
import type { Direction, LiveConnectionView, TrafficSeriesView, WorkerMetrics } from './messages.ts';
import { TrafficMetrics } from './traffic-metrics.ts';

export class Recorder {
  readonly #loop: EventLoop;
  readonly #log: LogWriter | undefined;
  readonly #format: LogFormat;
  readonly #metrics = new TrafficMetrics();
  readonly #live = new Map<number, ConnectionRecord>();
  readonly #refused = new Map<string, { reason: ErrorCode; direction: Direction; count: number }>();
  #nextId = 1;
  /** Connections that were led to another endpoint after the first could not be reached. */
  retries = 0;

  /** `log` absent: no access log. */
  constructor(loop: EventLoop, log: LogWriter | undefined, format: LogFormat) {
    this.#loop = loop;
    this.#log = log;
    this.#format = format;
  }

  /** Registers the connection; from now on `owner.cut` may be called at any time. */
  open(facts: RecordFacts, owner: Cuttable): ConnectionRecord {
    const security = facts.path === 'hbone' ? 'mutual_tls' : 'unknown';
    const reporter = facts.direction === 'outbound' ? 'source' : 'destination';
    const series = this.#metrics.resolve(reporter, facts.source, facts.target, facts.service, security);
    const record = new ConnectionRecord(this.#nextId++, facts, owner, series, this.#loop.nowMs);
    series.opened++;
    this.#live.set(record.id, record);
    return record;
  }

  /** Ends the record; later calls do nothing. */
  end(record: ConnectionRecord, error: AmbitError | undefined): void {
    if (record.ended) return;
    record.ended = true;
    this.#live.delete(record.id);
    record.countBytes();
    this.#metrics.close(record.series, error === undefined ? '-' : error.row.flag);
    if (error !== undefined && record.received === 0 && record.sent === 0) {
      this.#countRefusal(error.code, record.facts.direction);
    }
    this.#log?.write(formatAccessLine(this.#format, record.logEntry(this.#loop.nowMs, error), new Date()));
  }

  /** A connection that ends before its ends are known. `logged` false: it is only counted. */
  refuse(entry: RefusalEntry, logged = true): void {
    this.#countRefusal(entry.error.code, entry.direction);
    if (logged) this.#log?.write(formatRefusalLine(this.#format, entry, new Date()));
  }

  get liveCount(): number {
    return this.#live.size;
  }

  /** Live records, safe against cuts while iterating. */
  live(): ConnectionRecord[] {
    return [...this.#live.values()];
  }

  liveOf(pod: LocalPod): ConnectionRecord[] {
    return this.live().filter((record) => record.facts.pod === pod);
  }

  views(worker: number): LiveConnectionView[] {
    return this.live().map((record) => record.view(worker, this.#loop.nowMs));
  }

  /** Counters with the bytes of live connections included. */
  traffic(): TrafficSeriesView[] {
    for (const record of this.#live.values()) record.countBytes();
    return this.#metrics.view();
  }

  refused(): WorkerMetrics['refused'] {
    return Array.from(this.#refused.values(), (entry) => ({ ...entry }));
  }

  /** Open connections by direction, for the gauges. */
  openByDirection(): Record<Direction, number> {
    const open = { inbound: 0, outbound: 0 };
    for (const record of this.#live.values()) open[record.facts.direction]++;
    return open;
  }

  #countRefusal(reason: ErrorCode, direction: Direction): void {
    const key = `${reason}|${direction}`;
    const entry = this.#refused.get(key);
    if (entry === undefined) this.#refused.set(key, { reason, direction, count: 1 });
    else entry.count++;
  }
}
