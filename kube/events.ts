/**
 * Events (events.k8s.io/v1) on objects, for people who run `kubectl describe`. Equal events become a series of one object;
 * each object and reason is limited in rate. Losing an event is no error: `record` never throws and never waits.
 */
import { hash } from 'node:crypto';
import { hostname } from 'node:os';
import { toAmbitError } from '../core/errors.ts';
import { logger } from '../core/log.ts';
import type { KubeClient } from './client.ts';
import { RESOURCES } from './resource.ts';

export interface EventSubject {
  readonly apiVersion: string;
  readonly kind: string;
  /** Empty for objects of the cluster. */
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string | undefined;
}

export interface EventNote {
  readonly regarding: EventSubject;
  readonly type: 'Normal' | 'Warning';
  /** In UpperCamelCase: what is counted and filtered by. */
  readonly reason: string;
  /** For people, at most 1024 bytes are kept. */
  readonly note: string;
  /** In UpperCamelCase: what was done or tried. */
  readonly action: string;
}

export const EVENT_LIMITS = {
  /** Different events that are remembered to be counted as series; the oldest is forgotten. */
  maxSeries: 1000,
  /** Events that wait for the API server; further ones are dropped and counted. */
  maxPending: 100,
  /** An equal event within this time is counted and written once at its end. */
  quietMs: 60_000,
  noteBytes: 1024,
} as const;

interface Series {
  readonly name: string;
  count: number;
  /** Written last; an event that repeats is written again after `quietMs`. */
  writtenMs: number;
}

const log = logger('kube');

export class EventRecorder {
  readonly #client: KubeClient;
  readonly #controller: string;
  readonly #instance: string;
  readonly #series = new Map<string, Series>();
  readonly #now: () => number;
  #pending: Promise<void> = Promise.resolve();
  #waiting = 0;
  #dropped = 0;

  /** `controller` as in `ambit.io/control`; `instance`: this process. */
  constructor(client: KubeClient, controller: string, instance: string = hostname(), now: () => number = Date.now) {
    this.#client = client;
    this.#controller = controller;
    this.#instance = instance;
    this.#now = now;
  }

  record(event: EventNote): void {
    const { regarding: subject } = event;
    const identity = [subject.kind, subject.namespace, subject.name, subject.uid ?? '', event.type, event.reason];
    const key = [...identity, event.action, event.note].join('\0');
    const now = this.#now();
    const known = this.#series.get(key);
    if (known !== undefined) {
      known.count++;
      // Keeps the order of use for forgetting.
      this.#series.delete(key);
      this.#series.set(key, known);
      if (now - known.writtenMs < EVENT_LIMITS.quietMs) return;
      known.writtenMs = now;
      this.#write(event, known, now);
      return;
    }
    const suffix = hash('sha256', `${this.#instance}\0${key}\0${now}`, 'hex').slice(0, 16);
    const series = { name: `${subject.name.slice(0, 200)}.${suffix}`, count: 1, writtenMs: now };
    this.#series.set(key, series);
    if (this.#series.size > EVENT_LIMITS.maxSeries) {
      const [oldest] = this.#series.keys();
      if (oldest !== undefined) this.#series.delete(oldest);
    }
    this.#write(event, series, now);
  }

  /** Events that were lost because too many waited. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Resolves when everything recorded so far was written or lost. */
  async flush(): Promise<void> {
    await this.#pending;
  }

  #write(event: EventNote, series: Series, now: number): void {
    if (this.#waiting >= EVENT_LIMITS.maxPending) {
      this.#dropped++;
      return;
    }
    this.#waiting++;
    const { count } = series;
    this.#pending = this.#pending.then(async () => {
      try {
        if (count === 1) await this.#create(event, series.name, now);
        else await this.#count(event, series.name, count, now);
      } catch (thrown) {
        const { message } = toAmbitError(thrown, 'KUBERNETES_API');
        log.debug({ reason: message }, 'an event could not be written');
      }
      this.#waiting--;
    });
  }

  async #create(event: EventNote, name: string, now: number): Promise<void> {
    const namespace = namespaceOf(event);
    await this.#client.create(RESOURCES.Event, namespace, {
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      metadata: { name, namespace },
      eventTime: microTime(now),
      reportingController: this.#controller,
      reportingInstance: this.#instance.slice(0, 128),
      action: event.action,
      reason: event.reason,
      type: event.type,
      note: truncated(event.note),
      regarding: event.regarding,
    });
  }

  async #count(event: EventNote, name: string, count: number, now: number): Promise<void> {
    const body = { series: { count, lastObservedTime: microTime(now) } };
    await this.#client.mergePatch(RESOURCES.Event, namespaceOf(event), name, body);
  }
}

/** Events of objects without a namespace are kept in `default`. */
function namespaceOf({ regarding }: EventNote): string {
  return regarding.namespace === '' ? 'default' : regarding.namespace;
}

function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}

function truncated(note: string): string {
  const bytes = Buffer.from(note);
  if (bytes.length <= EVENT_LIMITS.noteBytes) return note;
  // A character that was cut in the middle becomes one replacement character, which is left out.
  return `${bytes
    .subarray(0, EVENT_LIMITS.noteBytes - 4)
    .toString('utf8')
    .replace(/\uFFFD$/, '')}…`;
}
