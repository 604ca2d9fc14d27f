/** Bytes arrive, over both paths, from the client's own address; both agents say who the ends are; services spread. */
import { hostOf } from '../access-record.ts';
import type { NodeName } from '../layout.ts';
import type { Check } from './check.ts';
import { type CheckContext, expect } from './context.ts';

interface Route {
  readonly id: string;
  readonly from: string;
  readonly to: string;
  readonly path: 'hbone' | 'same-node' | 'plaintext';
}

const ROUTES: readonly Route[] = [
  { id: 'across-nodes', from: 'shop/frontend', to: 'shop/catalog-v1', path: 'hbone' },
  { id: 'one-node', from: 'shop/frontend', to: 'shop/catalog-v2', path: 'same-node' },
  { id: 'from-outside', from: 'legacy/cron', to: 'shop/stock', path: 'plaintext' },
];
const RAW_BYTES = 3_000_000;
const ECHO_PORT = 9000;
const HTTP_PORT = 8080;

/** Body of every request the check sends from enrolled pods; must never be readable between the nodes. */
export const ENROLLED_WORD = 'word-of-an-enrolled-pod';
/** The same for the pod outside the mesh; must be readable there, or the capture proves nothing. */
export const OUTSIDE_WORD = 'word-of-a-pod-outside';

export const trafficChecks: readonly Check[] = ROUTES.flatMap((route) => [
  {
    id: `http.${route.id}`,
    async run(context: CheckContext) {
      const since = Date.now();
      const word = route.path === 'plaintext' ? OUTSIDE_WORD : ENROLLED_WORD;
      const url = `http://${context.ip(route.to)}:${HTTP_PORT}/hello`;
      const [answer] = await context.probe(route.from).http(url, { body: word });
      expect(answer?.status === 200, `${route.from} -> ${url}: ${answer?.status} ${answer?.error ?? ''}`);
      expectSource(context, route, answer?.body.client);
      expect(answer?.body.received === word.length, 'the server got the whole body');
      await expectPath(context, route, since);
      return `${route.path}, server saw ${String(answer?.body.client)}`;
    },
  },
  {
    id: `tcp.${route.id}`,
    async run(context: CheckContext) {
      const answer = await context.probe(route.from).echo(context.ip(route.to), ECHO_PORT, RAW_BYTES);
      expect(answer.intact, `${RAW_BYTES} bytes came back as they went (${answer.received} received)`);
      expectSource(context, route, answer.client);
      return `${RAW_BYTES} bytes each way, half-close passed on, server saw ${answer.client}`;
    },
  },
]);

export const identityCheck: Check = {
  id: 'identity.both-logs',
  async run(context) {
    const expected = {
      source: 'spiffe://cluster.local/ns/shop/sa/frontend',
      destination: 'spiffe://cluster.local/ns/shop/sa/catalog',
    };
    const since = Date.now();
    await context.probe('shop/frontend').http(`http://${context.ip('shop/catalog-v1')}:${HTTP_PORT}/who`);
    for (const [node, direction] of [
      ['a', 'outbound'],
      ['b', 'inbound'],
    ] as const) {
      const own = context.ip('shop/frontend');
      const record = await context.awaitRecord(`${direction} on ${node}`, since, (at, candidate) => {
        return at === node && candidate.direction === direction && hostOf(candidate.sourceAddress) === own;
      });
      expect(
        record.sourceIdentity === expected.source && record.destinationIdentity === expected.destination,
        `${direction} log of ${node} names ${record.sourceIdentity} -> ${record.destinationIdentity}`,
      );
    }
    return 'frontend -> catalog in the logs of node a (outbound) and node b (inbound)';
  },
};

export const spreadCheck: Check = {
  id: 'service.spread',
  async run(context) {
    const count = 120;
    const answers = await context.probe('shop/frontend').http('http://catalog/items', { count });
    const by = new Map<string, number>();
    for (const answer of answers) by.set(String(answer.body.pod), (by.get(String(answer.body.pod)) ?? 0) + 1);
    const failed = answers.filter((answer) => answer.status !== 200).length;
    expect(
      failed === 0,
      `${failed} of ${count} calls failed: ${answers.find((answer) => answer.status !== 200)?.error}`,
    );
    const shares = ['catalog-v1', 'catalog-v2'].map((pod) => by.get(pod) ?? 0);
    // The chance that a fair coin gives fewer than 30 of 120 is below 1 in 10 million.
    expect(
      shares.every((share) => share >= count / 4),
      `calls are spread over both endpoints: ${shares.join(' and ')}`,
    );
    return `${count} calls to the service: v1 ${shares[0]}, v2 ${shares[1]}`;
  },
};

function expectSource(context: CheckContext, route: Route, seen: unknown): void {
  const own = context.ip(route.from);
  expect(seen === own, `the server saw ${String(seen)} instead of the client's own address ${own}`);
}

async function expectPath(context: CheckContext, route: Route, since: number): Promise<void> {
  const name = route.to.split('/')[1];
  const node: NodeName = context.pod(route.to).template.node;
  await context.awaitRecord(
    `${route.path} to ${route.to}`,
    since,
    (at, record) =>
      at === node && record.path === route.path && record.destinationWorkload === name && record.error === undefined,
  );
}
