/**
 * A client that sends requests at fixed times, whether or not earlier ones were answered (open loop), and measures from
 * the time a request was due, so that a stall counts for every request it delayed.
 *
 *     node fixed-rate.ts <ip> <port> <requests per second> <connections> <seconds>
 *
 * Each connection has a thread of its own that sleeps until its next request is due and then writes and reads with
 * blocking calls: nothing else runs between the answer's arrival and the clock. What the thread itself overslept while
 * nothing was outstanding is not the subject's fault and is subtracted; the count of such late starts is reported.
 * Prints one line of JSON: count, p50Ms, p90Ms, p99Ms, maxMs, late.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { getIp } from '../../core/ip.ts';
import { AF_INET, CLOEXEC, SOCK_STREAM, SOL_TCP, sys, TCP_NODELAY } from '../../reactor/sys/libc.ts';
import { allocateBlock, type NativeBlock } from '../../reactor/sys/memory.ts';

interface Job {
  readonly ip: string;
  readonly port: number;
  readonly startAtMs: number;
  readonly intervalMs: number;
  readonly count: number;
}

/** Answers up to here belong to the warm-up and are not counted. */
const WARM_UP_SHARE = 0.15;
const LATE_MS = 1;
const BUFFER_BYTES = 64 * 1024;

if (isMainThread) await main(process.argv.slice(2));
else parentPort?.postMessage(drive(workerData));

async function main([ip = '', port, rate, connections, seconds]: readonly string[]): Promise<void> {
  const threads = Number(connections);
  const intervalMs = (1000 * threads) / Number(rate);
  const count = Math.floor((Number(seconds) * 1000) / intervalMs);
  const startAtMs = Date.now() + 300;
  const results = await Promise.all(
    Array.from({ length: threads }, (_, index) => {
      const job: Job = {
        ip,
        port: Number(port),
        startAtMs: startAtMs + (index * intervalMs) / threads,
        intervalMs,
        count,
      };
      const worker = new Worker(new URL(import.meta.url), { workerData: job });
      return new Promise<DriveResult>((resolve, reject) => worker.once('message', resolve).once('error', reject));
    }),
  );
  const latencies = Float64Array.from(results.flatMap((result) => [...result.latencies])).sort();
  const at = (share: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;
  const late = results.reduce((sum, result) => sum + result.late, 0);
  const summary = { count: latencies.length, p50Ms: at(0.5), p90Ms: at(0.9), p99Ms: at(0.99), maxMs: at(1), late };
  process.stdout.write(`${JSON.stringify(summary)}\n`);
}

interface DriveResult {
  readonly latencies: Float64Array;
  readonly late: number;
}

function drive(job: Job): DriveResult {
  const buffer = allocateBlock(BUFFER_BYTES);
  const connection = openConnection(job, buffer);
  const request = allocateBlock(256);
  const length = request.bytes.write(`GET / HTTP/1.1\r\nHost: ${job.ip}\r\n\r\n`, 0, 'latin1');
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  const startAt = performance.now() + (job.startAtMs - Date.now());
  const latencies = new Float64Array(job.count);
  let late = 0;
  for (let i = 0; i < job.count; i++) {
    let due = startAt + i * job.intervalMs;
    const before = performance.now();
    if (before < due) {
      Atomics.wait(sleeper, 0, 0, due - before);
      const overslept = performance.now() - due;
      if (overslept > LATE_MS) late++;
      due += Math.max(0, overslept);
    }
    exchange(connection, request, length, buffer);
    latencies[i] = performance.now() - due;
  }
  sys.close(connection);
  return { latencies: latencies.slice(Math.floor(job.count * WARM_UP_SHARE)), late };
}

function openConnection({ ip, port }: Job, scratch: NativeBlock): number {
  const fd = sys.socket(AF_INET, SOCK_STREAM | CLOEXEC, 0);
  scratch.bytes.writeInt32LE(1, 0);
  sys.setsockopt(fd, SOL_TCP, TCP_NODELAY, scratch.address, 4);
  // struct sockaddr_in: family, port and address in network order, padding.
  scratch.bytes.fill(0, 0, 16);
  scratch.bytes.writeUInt16LE(AF_INET, 0);
  scratch.bytes.writeUInt16BE(port, 2);
  scratch.bytes.set(getIp(ip).split('.').map(Number), 4);
  if (fd < 0 || sys.connect(fd, scratch.address, 16) !== 0) throw new Error(`cannot connect to ${ip}:${port}`);
  return fd;
}

/** Writes one request and reads its whole answer. */
function exchange(fd: number, request: NativeBlock, length: number, buffer: NativeBlock): void {
  if (sys.write(fd, request.address, length) !== length) throw new Error('the connection took no request');
  let filled = 0;
  for (;;) {
    const read = sys.read(fd, buffer.address + filled, buffer.bytes.length - filled);
    if (read <= 0) throw new Error('the connection ended before the answer did');
    filled += read;
    const end = buffer.bytes.subarray(0, filled).indexOf('\r\n\r\n');
    if (end < 0) continue;
    const head = buffer.bytes.toString('latin1', 0, end);
    const bodyBytes = Number(/content-length: *(\d+)/i.exec(head)?.[1] ?? 0);
    if (filled >= end + 4 + bodyBytes) return;
  }
}
