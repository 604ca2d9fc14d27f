/** HTTP requests as fast as they go (closed loop), and connections as fast as they open, with wrk. */
import { join } from 'node:path';
import { HTTP_PORT } from '../servers.ts';
import type { Measurement, Target } from './measurement.ts';

const SCRIPT = join(import.meta.dirname, '..', 'load', 'wrk-report.lua');

/** Yields `rps`, `p50Ms`, `p99Ms`. */
export function requests(connections: number): Measurement {
  return {
    name: `requests/${connections}`,
    run: async (target, seconds) => {
      const { rate, p50Ms, p99Ms } = await wrk(target, connections, seconds, []);
      return { rps: rate, p50Ms, p99Ms };
    },
  };
}

/** One request on each connection, then a new one; yields `cps`. */
export function newConnections(parallel: number): Measurement {
  return {
    name: `connections/${parallel}`,
    run: async (target, seconds) => {
      const { rate } = await wrk(target, parallel, seconds, ['-H', 'Connection: close']);
      return { cps: rate };
    },
  };
}

interface WrkResult {
  readonly rate: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

async function wrk(target: Target, connections: number, seconds: number, extra: readonly string[]): Promise<WrkResult> {
  const { ip, port } = target.running.address(HTTP_PORT);
  const args = ['-t', '1', '-c', String(connections), '-d', `${seconds}s`, '-s', SCRIPT, ...extra];
  const output = await target.world.client.runAsync('wrk', [...args, `http://${ip}:${port}/`]);
  const line = output.split('\n').find((text) => text.startsWith('{'));
  if (line === undefined) throw new Error(`wrk reported nothing: ${output}`);
  const result: WrkResult & { readonly errors: number } = JSON.parse(line);
  if (result.errors > 0 || result.rate === 0) throw new Error(`wrk counted ${result.errors} errors: ${output}`);
  return result;
}
