/** Latency at a fixed rate, open loop, over four connections. */
import { join } from 'node:path';
import { HTTP_PORT } from '../servers.ts';
import type { Measurement } from './measurement.ts';

const CLIENT = join(import.meta.dirname, '..', 'load', 'fixed-rate.ts');
const CONNECTIONS = 4;

/** Yields `p50Ms`, `p90Ms`, `p99Ms`, `maxMs`, `late`. */
export function fixedRate(requestsPerSecond: number): Measurement {
  return {
    name: `fixed-rate/${requestsPerSecond}`,
    async run({ world, running }, seconds) {
      const { ip, port } = running.address(HTTP_PORT);
      const args = [CLIENT, ip, String(port), String(requestsPerSecond), String(CONNECTIONS), String(seconds)];
      return JSON.parse(await world.client.runAsync(process.execPath, args));
    },
  };
}
