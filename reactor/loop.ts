/**
 * The event loop of one thread: epoll, timers, tasks at the end of a turn, wake-ups from other threads.
 *
 *   turn:  wait -> postponed tasks -> events -> due timers -> tasks of the turn's end
 *
 * While it runs it owns the thread: Node's own loop gets its share between slices of at most SLICE_MS (and after every turn
 * while somebody holds `keepAsyncAlive`), so promises and Node's timers make progress late, never never. Nothing here
 * allocates per event. A handler that throws ends `run()` with its error unless `onHandlerError` is set.
 */
import { AmbitError } from '../core/errors.ts';
import { Epoll } from './sys/epoll.ts';
import { type Timer, TimerHeap } from './timer-heap.ts';
import { openWakeUp, type WakeUp } from './wake-up.ts';

export type { Timer } from './timer-heap.ts';
export { signalWakeUp, type WakeUp } from './wake-up.ts';

export interface TurnTask {
  runAtTurnEnd(): void;
}

/** What a descriptor is registered with; gets the epoll event bits. */
export interface DescriptorHandler {
  onEvents(mask: number): void;
}

/** Something that outlives its owner for a while and must not outlive the loop. */
export interface LoopOwned {
  endWithLoop(): void;
}

/** Counters since `open`; the reader takes differences. `maxTurnMs` and `maxTimerLagMs` may be set back to 0 by the reader. */
export interface LoopStats {
  turns: number;
  events: number;
  /** Time spent outside of waiting, ms. */
  busyMs: number;
  maxTurnMs: number;
  /** Longest delay of a timer behind its deadline, ms. */
  maxTimerLagMs: number;
}

/** The longest wait, so that the thread can always be reached by Node (worker termination, messages). */
const MAX_WAIT_MS = 1000;
/** The longest time without giving Node's own loop a turn while the thread is busy. */
const SLICE_MS = 50;
/** The wait while somebody needs Node's own loop. */
const ASYNC_WAIT_MS = 1;
/** Rounds of turn-end tasks that queue further ones, before the rest is left to the next turn. */
const MAX_TASK_ROUNDS = 8;

export class EventLoop {
  /** Monotonic time in ms, refreshed once per turn. */
  nowMs: number = performance.now();
  readonly stats: LoopStats = { turns: 0, events: 0, busyMs: 0, maxTurnMs: 0, maxTimerLagMs: 0 };
  /** Told about anything a handler threw; the loop goes on. Without it the error ends `run()`. */
  onHandlerError: ((error: unknown) => void) | undefined = undefined;

  readonly #epoll = new Epoll();
  readonly #timers = new TimerHeap();
  readonly #handlers: (DescriptorHandler | undefined)[] = [];
  readonly #generations: number[] = [];
  readonly #owned = new Set<LoopOwned>();
  #lastGeneration = 0;
  #tasks: TurnTask[] = [];
  #spareTasks: TurnTask[] = [];
  #postponed: TurnTask[] = [];
  #sparePostponed: TurnTask[] = [];
  #asyncHolds = 0;
  #state: 'idle' | 'running' | 'stopping' | 'closed' = 'idle';
  #inTurn = false;
  /** Time when the last turn ended or this slice began. */
  #measuredMs = 0;
  #finish: { resolve: () => void; reject: (error: unknown) => void } | undefined = undefined;

  static open(): EventLoop {
    return new EventLoop();
  }

  /** Runs `task` once at the end of this turn (or of the next one, from outside a turn). The task keeps itself from being queued twice. */
  atTurnEnd(task: TurnTask): void {
    this.#tasks.push(task);
  }

  /** Runs `task` once at the start of the next turn, which does not wait. */
  atNextTurn(task: TurnTask): void {
    this.#postponed.push(task);
  }

  /** Calls `handler` once, not before `delayMs` have passed. */
  setTimer(delayMs: number, handler: () => void): Timer {
    this.#requireOpen();
    const startMs = this.#inTurn ? this.nowMs : performance.now();
    return this.#timers.add(startMs + Math.max(0, delayMs), handler);
  }

  /** An eventfd that any thread of this process can signal with `signalWakeUp(fd)`. */
  openWakeUp(onWake: () => void): WakeUp {
    this.#requireOpen();
    return openWakeUp(this, onWake);
  }

  /** While held, Node's own loop (promises, timers, streams) runs between turns. Returns the release. */
  keepAsyncAlive(): () => void {
    this.#asyncHolds++;
    let held = true;
    return () => {
      if (held) this.#asyncHolds--;
      held = false;
    };
  }

  /** Turns until `stop()`. Rejects with what a handler threw (see `onHandlerError`). */
  run(): Promise<void> {
    this.#requireOpen();
    if (this.#state !== 'idle') throw new AmbitError('USAGE', 'the loop runs already');
    this.#state = 'running';
    return new Promise((resolve, reject) => {
      this.#finish = { resolve, reject };
      setImmediate(this.#runSlice);
    });
  }

  /** Ends `run()` after the current turn. Idempotent. */
  stop(): void {
    if (this.#state === 'running') this.#state = 'stopping';
  }

  /** Frees the epoll set and ends what lingers. Sockets have other owners. The loop must not be running. Idempotent. */
  close(): void {
    if (this.#state === 'closed') return;
    if (this.#state !== 'idle') throw new AmbitError('USAGE', 'a running loop cannot be closed');
    for (const owned of this.#owned) owned.endWithLoop();
    this.#owned.clear();
    this.#state = 'closed';
    this.#timers.clear();
    this.#handlers.length = 0;
    this.#epoll.close();
  }

  /** For `reactor/`: watches a descriptor. Its owner calls `unregister` before it closes the descriptor. */
  register(fd: number, handler: DescriptorHandler, mask: number): void {
    this.#requireOpen();
    const generation = this.#nextGeneration();
    this.#epoll.add(fd, mask, generation);
    this.#handlers[fd] = handler;
    this.#generations[fd] = generation;
  }

  /** For `reactor/`: changes the events of a registered descriptor. */
  modify(fd: number, mask: number): void {
    this.#requireOpen();
    this.#epoll.modify(fd, mask, this.#generations[fd] ?? 0);
  }

  /** For `reactor/`: hands a registration over to another handler, without a system call. */
  replaceHandler(fd: number, handler: DescriptorHandler): void {
    this.#handlers[fd] = handler;
  }

  /** For `reactor/`: forgets a descriptor; events already fetched are dropped. `closing` spares the system call. */
  unregister(fd: number, closing: boolean): void {
    if (this.#state === 'closed') return;
    this.#handlers[fd] = undefined;
    this.#generations[fd] = 0;
    if (!closing) this.#epoll.remove(fd);
  }

  /** For `reactor/`: ends `resource` when the loop closes, unless it is disowned before. */
  own(resource: LoopOwned): void {
    this.#owned.add(resource);
  }

  /** For `reactor/`. */
  disown(resource: LoopOwned): void {
    this.#owned.delete(resource);
  }

  #nextGeneration(): number {
    this.#lastGeneration = this.#lastGeneration >= 0x3fffffff ? 1 : this.#lastGeneration + 1;
    return this.#lastGeneration;
  }

  #requireOpen(): void {
    if (this.#state === 'closed') throw new AmbitError('CLOSED', 'event loop used after it was closed');
  }

  readonly #runSlice = (): void => {
    try {
      const sliceStartMs = performance.now();
      this.#measuredMs = sliceStartMs;
      while (this.#state === 'running') {
        this.#turn();
        if (this.#asyncHolds > 0 || this.nowMs - sliceStartMs >= SLICE_MS) break;
      }
    } catch (error) {
      this.#end((finish) => finish.reject(error));
      return;
    }
    if (this.#state === 'running') setImmediate(this.#runSlice);
    else this.#end((finish) => finish.resolve());
  };

  #end(how: (finish: { resolve: () => void; reject: (error: unknown) => void }) => void): void {
    this.#state = 'idle';
    this.#inTurn = false;
    const finish = this.#finish;
    this.#finish = undefined;
    if (finish !== undefined) how(finish);
  }

  #turn(): void {
    const count = this.#epoll.wait(this.#waitMs());
    const startMs = performance.now();
    this.nowMs = startMs;
    this.#inTurn = true;
    if (this.#postponed.length > 0) this.#runPostponed();
    if (count > 0) this.#dispatch(count);
    if (this.#timers.nextDeadlineMs <= startMs) this.#runTimers(startMs);
    if (this.#tasks.length > 0) this.#runTasks();
    this.#inTurn = false;
    this.#measuredMs = performance.now();
    const turnMs = this.#measuredMs - startMs;
    const stats = this.stats;
    stats.turns++;
    stats.events += count;
    stats.busyMs += turnMs;
    if (turnMs > stats.maxTurnMs) stats.maxTurnMs = turnMs;
  }

  #waitMs(): number {
    if (this.#postponed.length > 0 || this.#tasks.length > 0) return 0;
    let waitMs = this.#asyncHolds > 0 ? ASYNC_WAIT_MS : MAX_WAIT_MS;
    const deadlineMs = this.#timers.nextDeadlineMs;
    if (deadlineMs !== Number.POSITIVE_INFINITY) {
      const untilTimerMs = Math.ceil(deadlineMs - this.#measuredMs);
      if (untilTimerMs < waitMs) waitMs = Math.max(untilTimerMs, 0);
    }
    return waitMs;
  }

  #dispatch(count: number): void {
    let index = 0;
    while (index < count) {
      try {
        for (; index < count; index++) {
          const fd = this.#epoll.fdAt(index);
          if (this.#generations[fd] !== this.#epoll.generationAt(index)) continue;
          this.#handlers[fd]?.onEvents(this.#epoll.maskAt(index));
        }
      } catch (error) {
        index++;
        this.#handlerFailed(error);
      }
    }
  }

  #runTimers(nowMs: number): void {
    for (let budget = this.#timers.size; budget > 0; budget--) {
      const lagMs = nowMs - this.#timers.nextDeadlineMs;
      const handler = this.#timers.takeDue(nowMs);
      if (handler === undefined) return;
      if (lagMs > this.stats.maxTimerLagMs) this.stats.maxTimerLagMs = lagMs;
      try {
        handler();
      } catch (error) {
        this.#handlerFailed(error);
      }
    }
  }

  #runPostponed(): void {
    const tasks = this.#postponed;
    this.#postponed = this.#sparePostponed;
    this.#sparePostponed = tasks;
    this.#runEach(tasks);
  }

  #runTasks(): void {
    for (let round = 0; round < MAX_TASK_ROUNDS && this.#tasks.length > 0; round++) {
      const tasks = this.#tasks;
      this.#tasks = this.#spareTasks;
      this.#spareTasks = tasks;
      this.#runEach(tasks);
    }
  }

  #runEach(tasks: TurnTask[]): void {
    for (let index = 0; index < tasks.length; index++) {
      try {
        tasks[index]?.runAtTurnEnd();
      } catch (error) {
        this.#handlerFailed(error);
      }
    }
    tasks.length = 0;
  }

  #handlerFailed(error: unknown): void {
    if (this.onHandlerError === undefined) throw error;
    this.onHandlerError(error);
  }
}
