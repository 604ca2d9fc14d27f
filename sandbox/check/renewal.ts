/** Certificates are renewed while traffic flows, and nothing is lost: no call, no live connection. */
import type { Check } from './check.ts';
import { eventually, expect } from './context.ts';

const CALLS_PER_SECOND = 40;
const DEADLINE_MS = 60_000;
const CLIENT = 'spiffe://cluster.local/ns/shop/sa/frontend';
const SERVER = 'spiffe://cluster.local/ns/shop/sa/catalog';

export const renewalCheck: Check = {
  id: 'certificate.renewal',
  async run(context) {
    const frontend = context.probe('shop/frontend');
    await frontend.open('renewal', context.ip('shop/catalog-v1'), 9000);
    await frontend.startLoad('http://catalog/items', CALLS_PER_SECOND);
    const serial = async (node: 'a' | 'b', identity: string): Promise<string | undefined> =>
      (await context.certificates(node)).get(identity);
    const before = [await serial('a', CLIENT), await serial('b', SERVER)];
    const tookMs = await eventually('both ends renewed their certificates', DEADLINE_MS, async () => {
      const now = [await serial('a', CLIENT), await serial('b', SERVER)];
      await new Promise((resolve) => setTimeout(resolve, 200));
      return now.every((value, index) => value !== undefined && value !== before[index]);
    });
    // Calls after the swap count as well.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const result = await frontend.stopLoad();
    expect(result.failed === 0, `${result.failed} of ${result.calls} calls failed during renewal: ${result.failures}`);
    expect(await frontend.isAlive('renewal'), 'a connection from before the renewal lives on');
    await frontend.close('renewal');
    return `both renewed after ${(tookMs / 1000).toFixed(1)} s, ${result.calls} calls and a live connection without loss`;
  },
};
