/** One kind of measurement: what it runs against a subject, and what it yields. */
import type { RunningSubject, Subject, SubjectWorld } from '../subjects/subject.ts';

export interface Target {
  readonly subject: Subject;
  readonly world: SubjectWorld;
  readonly running: RunningSubject;
}

export interface Measurement {
  /** Key in the results, for example `requests/64`. */
  readonly name: string;
  /** Runs once, for about `seconds`. The numbers by metric, for example `{ rps: 41000, p99Ms: 1.2 }`. */
  run(target: Target, seconds: number): Promise<Readonly<Record<string, number>>>;
}

/** A metric and which direction is better; rows of the report. */
export interface Metric {
  readonly measurement: string;
  readonly metric: string;
  readonly label: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly digits: number;
}
