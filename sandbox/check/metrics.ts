/** The agents' counters say exactly what was sent: connections and bytes, at both ends, over both paths. */
import type { NodeName } from '../layout.ts';
import type { Check } from './check.ts';
import { type CheckContext, eventually, expect } from './context.ts';
import { type Sample, sumSamples } from './metrics-text.ts';

const CONNECTIONS = 25;
const BYTES = 12_345;
const SETTLE_MS = 3000;

interface Counters {
  readonly opened: number;
  readonly closed: number;
  /** Client to server. */
  readonly request: number;
  readonly response: number;
}

export const metricsChecks: readonly Check[] = [
  metricsCheck('metrics.across-nodes', 'shop/catalog-v1', 'mutual_tls'),
  // Nothing crosses a wire, so there is no mutual TLS to claim.
  metricsCheck('metrics.one-node', 'shop/catalog-v2', 'unknown'),
];

function metricsCheck(id: string, to: string, securityPolicy: string): Check {
  return {
    id,
    async run(context) {
      const ends = [
        { reporter: 'source', node: context.pod('shop/frontend').template.node },
        { reporter: 'destination', node: context.pod(to).template.node },
      ] as const;
      const read = (): Promise<Counters[]> =>
        Promise.all(ends.map(({ reporter, node }) => counters(context, node, reporter, to)));
      // Connections of the checks before this one may still be on their way to their end.
      let before = await read();
      await eventually('earlier connections are counted as closed', SETTLE_MS, async () => {
        before = await read();
        return before.every(({ opened, closed }) => opened === closed);
      });
      let response = 0;
      for (let index = 0; index < CONNECTIONS; index++) {
        const answer = await context.probe('shop/frontend').echo(context.ip(to), 9000, BYTES);
        expect(answer.intact, 'the bytes came back as they went');
        response += answer.received;
      }
      const wanted: Counters = { opened: CONNECTIONS, closed: CONNECTIONS, request: CONNECTIONS * BYTES, response };
      let deltas: Counters[] = [];
      await eventually(`all ${CONNECTIONS} connections are counted as closed`, SETTLE_MS, async () => {
        deltas = (await read()).map((now, index) => subtract(now, before[index] ?? now));
        return deltas.every((delta) => delta.closed >= CONNECTIONS);
      });
      ends.forEach(({ reporter }, index) => {
        const got = JSON.stringify(deltas[index]);
        expect(got === JSON.stringify(wanted), `reporter ${reporter}: counted ${got}, sent ${JSON.stringify(wanted)}`);
      });
      expect(await hasPolicy(context, to, securityPolicy), `connection_security_policy is ${securityPolicy}`);
      return `${CONNECTIONS} connections, ${wanted.request} bytes there, ${wanted.response} back: equal at source and destination`;
    },
  };
}

async function counters(context: CheckContext, node: NodeName, reporter: string, to: string): Promise<Counters> {
  const samples = await context.metrics(node);
  const labels = labelsOf(reporter, to);
  return {
    opened: sumSamples(samples, 'istio_tcp_connections_opened_total', labels),
    closed: sumSamples(samples, 'istio_tcp_connections_closed_total', labels),
    request: sumSamples(samples, 'istio_tcp_received_bytes_total', labels),
    response: sumSamples(samples, 'istio_tcp_sent_bytes_total', labels),
  };
}

async function hasPolicy(context: CheckContext, to: string, securityPolicy: string): Promise<boolean> {
  const samples: Sample[] = await context.metrics('a');
  const labels = { ...labelsOf('source', to), connection_security_policy: securityPolicy };
  return sumSamples(samples, 'istio_tcp_connections_opened_total', labels) > 0;
}

function labelsOf(reporter: string, to: string): Record<string, string> {
  const [namespace = '', name = ''] = to.split('/');
  return {
    reporter,
    source_workload: 'frontend',
    source_workload_namespace: 'shop',
    destination_workload: name,
    destination_workload_namespace: namespace,
  };
}

function subtract(now: Counters, before: Counters): Counters {
  return {
    opened: now.opened - before.opened,
    closed: now.closed - before.closed,
    request: now.request - before.request,
    response: now.response - before.response,
  };
}
