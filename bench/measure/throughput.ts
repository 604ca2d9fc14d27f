/** Bulk transfer with iperf3: streams in parallel, client to server and back. */
import { THROUGHPUT_PORT } from '../servers.ts';
import type { Measurement } from './measurement.ts';

export type Direction = 'up' | 'down';

/** Yields `gbps`, as the receiver counted it. */
export function throughput(streams: number, direction: Direction): Measurement {
  return {
    name: `throughput/${direction}/${streams}`,
    async run({ world, running }, seconds) {
      const { ip, port } = running.address(THROUGHPUT_PORT);
      const reverse = direction === 'down' ? ['-R'] : [];
      const args = ['-c', ip, '-p', String(port), '-J', '-t', String(seconds), '-P', String(streams), ...reverse];
      const result: { end?: { sum_received?: { bits_per_second?: number } } } = JSON.parse(
        await world.client.runAsync('iperf3', args),
      );
      const bits = result.end?.sum_received?.bits_per_second;
      if (bits === undefined) throw new Error('iperf3 reported no result');
      return { gbps: bits / 1e9 };
    },
  };
}
