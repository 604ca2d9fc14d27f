/** Calls one URL at a steady rate. A call that hangs does not hold up the next; at most 200 are in flight. */
import { CallStatistics } from './call-statistics.ts';
import { callOnce } from './http-client.ts';

const MAX_IN_FLIGHT = 200;

export function startCaller(url: string, callsPerSecond: number): void {
  const statistics = new CallStatistics(url);
  let inFlight = 0;
  const call = async (): Promise<void> => {
    if (inFlight >= MAX_IN_FLIGHT) return;
    inFlight++;
    try {
      const { pod, status, durationMs } = await callOnce(url);
      if (status !== 200) throw new Error(`HTTP status ${status}`);
      statistics.succeeded(pod, durationMs);
    } catch (error) {
      statistics.failed(error);
    } finally {
      inFlight--;
    }
  };
  setInterval(() => void call(), 1000 / callsPerSecond);
}
