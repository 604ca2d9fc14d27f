/** Connections that are kept open while something happens to the mesh, and the count of what broke. */
import { toAmbitError } from '../../core/errors.ts';
import { formatDuration } from '../output.ts';
import type { Say } from '../progress.ts';
import { APP_PORT } from './objects.ts';
import type { LoadState, TestBed } from './test-bed.ts';

export interface DisruptReport {
  readonly seconds: number;
  readonly requests: number;
  readonly failures: number;
  readonly lastFailure: string;
  readonly longestMs: number;
  readonly streams: number;
  readonly breaks: number;
  readonly lastBreak: string;
}

const LOOK_INTERVAL_MS = 1_000;
/** Something is said at least this often. */
const SAY_EVERY_MS = 10_000;

/** Until `durationMs` have passed or the signal; never rejects for what breaks. */
export async function watchDisruption(
  bed: TestBed,
  { durationMs, say, signal }: { readonly durationMs: number; readonly say: Say; readonly signal: AbortSignal },
): Promise<DisruptReport> {
  const urls = bed.plan.pods
    .filter(({ role }) => role === 'server')
    .map(({ name }) => `http://${name}.${bed.plan.namespace}.svc`);
  let state = await bed.load('client', urls);
  const startedMs = performance.now();
  say(`${urls.length} streams on port ${APP_PORT} and a request every 40 ms; Ctrl-C ends it`);
  let saidMs = startedMs;
  let said = '';
  while (!signal.aborted && performance.now() - startedMs < durationMs) {
    await pause(LOOK_INTERVAL_MS, signal);
    // The way to the client leads through the API server, which may be what is upgraded: the client goes on without us.
    const seen = await bed.load('client', urls).catch((thrown: unknown) => toAmbitError(thrown, 'NOT_RUNNING').message);
    if (typeof seen === 'string') {
      say(`  the client cannot be asked just now: ${seen}`);
      continue;
    }
    state = seen;
    const report = summarise(state, performance.now() - startedMs);
    const news = `${report.failures} ${report.breaks}`;
    if (news !== said || performance.now() - saidMs > SAY_EVERY_MS) {
      say(`  ${describe(report)}`);
      saidMs = performance.now();
      said = news;
    }
  }
  const report = summarise(state, performance.now() - startedMs);
  say(`${report.failures + report.breaks === 0 ? '√' : '×'} ${describe(report)}`);
  return report;
}

export function summarise(state: LoadState, elapsedMs: number): DisruptReport {
  const breaks = state.streams.reduce((sum, stream) => sum + stream.breaks, 0);
  const last = state.streams.map(({ lastBreak }) => lastBreak).toSorted();
  return {
    seconds: Math.round(elapsedMs / 1000),
    requests: state.requests,
    failures: state.failures,
    lastFailure: state.lastFailure,
    longestMs: Math.round(state.longestMs),
    streams: state.streams.length,
    breaks,
    lastBreak: last.at(-1) ?? '',
  };
}

export function describe(report: DisruptReport): string {
  const { seconds, requests, failures, lastFailure, longestMs, streams, breaks, lastBreak } = report;
  const failed = failures === 0 ? '0 failed' : `${failures} failed (last ${lastFailure})`;
  const broke = breaks === 0 ? 'none broke' : `${breaks} breaks (last ${lastBreak})`;
  return `${seconds} s: ${requests} requests, ${failed}, longest ${formatDuration(longestMs)}; ${streams} streams, ${broke}`;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
