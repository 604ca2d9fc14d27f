import { AmbitError } from '../core/errors.ts';

export interface TurnTask {
  runAtTurnEnd(): void;
}
export interface Timer {
  cancel(): void;
}
export interface WakeUp {
  /** Pass to `signalWakeUp` on any thread of this process. */
  readonly fd: number;
  close(): void;
}
export interface LoopStats {
  turns: number;
  events: number;
  busyMs: number;
  maxTurnMs: number;
  /** Longest delay of a timer behind its deadline, ms. */
  maxTimerLagMs: number;
}

export class EventLoop {
  static open(): EventLoop {
    return new EventLoop();
  }
  readonly nowMs: number = 0;
  readonly stats: LoopStats = { turns: 0, events: 0, busyMs: 0, maxTurnMs: 0, maxTimerLagMs: 0 };
  atTurnEnd(_task: TurnTask): void {
    throw new AmbitError('USAGE', 'not there yet');
  }
  setTimer(_delayMs: number, _handler: () => void): Timer {
    throw new AmbitError('USAGE', 'not there yet');
  }
  openWakeUp(_onWake: () => void): WakeUp {
    throw new AmbitError('USAGE', 'not there yet');
  }
  keepAsyncAlive(): () => void {
    throw new AmbitError('USAGE', 'not there yet');
  }
  run(): Promise<void> {
    throw new AmbitError('USAGE', 'not there yet');
  }
  stop(): void {}
  close(): void {}
}

export function signalWakeUp(_fd: number): void {
  throw new AmbitError('USAGE', 'not there yet');
}
