/**
 * The elected replica: while this one holds the Lease, the tasks run; when it loses it, they stop. Of several replicas
 * one at most writes; which one makes no difference, because tasks compare with what stands in the cluster.
 */

import { logger } from '../../core/log.ts';
import type { KubeClient } from '../../kube/client.ts';
import { LeaseElection, type LeaseTimes } from '../../kube/lease.ts';
import type { ObjectChange } from '../model/object-store.ts';
import type { ObjectKey } from '../objects/object.ts';
import type { Part } from '../part.ts';
import type { FailingKey, LeaderTask } from './task.ts';

const log = logger('leader');

export interface LeaderOptions {
  readonly namespace: string;
  readonly leaseName: string;
  /** Unique among replicas and their lives. */
  readonly identity: string;
  readonly leaseDurationMs: number;
}

/** The parts of the duration: a leader that cannot renew stops well before others may begin. */
export function leaseTimes(durationMs: number): LeaseTimes {
  return { durationMs, deadlineMs: Math.floor(durationMs * 0.6), intervalMs: Math.floor(durationMs / 5) };
}

export interface TaskState {
  readonly name: string;
  readonly waiting: number;
  readonly failing: readonly FailingKey[];
}

export class Leader implements Part {
  readonly name = 'leader election';
  readonly #makeTasks: () => readonly LeaderTask[];
  #tasks: readonly LeaderTask[] = [];
  readonly #election: LeaseElection;
  #started = false;
  #running = false;
  /** Starts and stops of the tasks, one after the other. */
  #turn: Promise<void> = Promise.resolve();

  /** `tasks` is asked once, at the start: then everything that tasks are made of exists. */
  constructor(client: KubeClient, options: LeaderOptions, tasks: () => readonly LeaderTask[]) {
    this.#makeTasks = tasks;
    this.#election = new LeaseElection(client, {
      namespace: options.namespace,
      name: options.leaseName,
      identity: options.identity,
      times: leaseTimes(options.leaseDurationMs),
      onElected: (signal) =>
        this.#then(async () => {
          // Lost again while the tasks of before were stopping.
          if (!signal.aborted) this.#begin();
        }),
      onLost: () => this.#then(() => this.#end()),
    });
  }

  /** Takes part in the election from now on; call it when the source is known. */
  async start(): Promise<void> {
    this.#started = true;
    this.#tasks = this.#makeTasks();
    this.#election.start();
  }

  /** Hands the lease over: nothing is written any more when this resolves. */
  async stop(): Promise<void> {
    if (!this.#started) return;
    await this.#election.close();
    await this.#turn;
  }

  /** A replica that does not lead is as good as one that does. */
  pending(): readonly string[] {
    return [];
  }

  get isLeader(): boolean {
    return this.#election.isLeader;
  }

  /** Who leads as far as this replica knows; empty when nobody. */
  get leader(): string {
    return this.#election.leader;
  }

  changed(changes: readonly ObjectChange[]): void {
    if (this.#running) for (const task of this.#tasks) task.changed?.(changes);
  }

  conditionsChanged(objects: ReadonlySet<ObjectKey>): void {
    if (this.#running) for (const task of this.#tasks) task.conditionsChanged?.(objects);
  }

  tasks(): readonly TaskState[] {
    return this.#tasks.map((task) => ({ name: task.name, waiting: task.length, failing: task.failing() }));
  }

  #begin(): void {
    this.#running = true;
    for (const task of this.#tasks) task.start();
    log.info({ tasks: this.#tasks.map(({ name }) => name) }, 'this replica writes');
  }

  async #end(): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    await Promise.all(this.#tasks.map((task) => task.stop()));
    log.info('this replica does not write any more');
  }

  #then(step: () => Promise<void>): void {
    this.#turn = this.#turn.then(step, step);
  }
}
