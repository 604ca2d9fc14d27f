/** A policy file takes effect within a second, on new and on live connections, and so does its removal. */
import type { Check } from './check.ts';
import { type CheckContext, eventually, expect, within } from './context.ts';
import type { Probe } from './probe.ts';

const LIMIT_MS = 1000;
/** The measurement itself takes a connection attempt; a second is the promise, this is when the check gives up. */
const GIVE_UP_MS = 5000;
const FILE = 'policies/check.yaml';
const ECHO_PORT = 9000;

const DENY_FRONTEND = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: check-deny, namespace: shop }
spec:
  selector: { matchLabels: { app: catalog } }
  action: DENY
  rules:
    - from: [{ source: { principals: [cluster.local/ns/shop/sa/frontend] } }]
`;

const ALLOW_CATALOG = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: check-allow, namespace: shop }
spec:
  selector: { matchLabels: { app: stock } }
  action: ALLOW
  rules:
    - from: [{ source: { principals: [cluster.local/ns/shop/sa/catalog] } }]
`;

const STRICT = `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: check-strict, namespace: shop }
spec: { mtls: { mode: STRICT } }
`;

/** Comments only, as when a person takes a policy out again. */
const NOTHING = '# nothing\n';

export const policyChecks: readonly Check[] = [
  {
    id: 'policy.deny',
    async run(context) {
      const frontend = context.probe('shop/frontend');
      const [remote, local] = [context.ip('shop/catalog-v1'), context.ip('shop/catalog-v2')];
      await frontend.open('deny-remote', remote, ECHO_PORT);
      await frontend.open('deny-local', local, ECHO_PORT);
      const at = await context.writeMeshFile(FILE, DENY_FRONTEND);
      const cut = [await awaitCut(frontend, 'deny-remote', at), await awaitCut(frontend, 'deny-local', at)];
      const refused = await awaitReach(frontend, `http://${remote}:8080/`, false, at);
      const record = await context.awaitRecord('the refusal', at, (_, seen) => seen.reason === 'POLICY_DENIED');
      expect(record.sourceWorkload === 'frontend', `the refusal names frontend, not ${record.sourceWorkload}`);
      const backAt = await context.writeMeshFile(FILE, NOTHING);
      const back = await awaitReach(frontend, `http://${remote}:8080/`, true, backAt);
      return `live cut after ${cut[0]} ms (tunnel) and ${cut[1]} ms (same node), new refused ${refused} ms, allowed again ${back} ms`;
    },
  },
  {
    id: 'policy.allow',
    async run(context) {
      const [frontend, catalog] = [context.probe('shop/frontend'), context.probe('shop/catalog-v1')];
      const stock = context.ip('shop/stock');
      await frontend.open('allow-frontend', stock, ECHO_PORT);
      await catalog.open('allow-catalog', stock, ECHO_PORT);
      const at = await context.writeMeshFile(FILE, ALLOW_CATALOG);
      const cut = await awaitCut(frontend, 'allow-frontend', at);
      const refused = await awaitReach(frontend, `http://${stock}:8080/`, false, at);
      expect(await catalog.isAlive('allow-catalog'), 'the connection of the allowed identity lives on');
      expect(await catalog.reaches(`http://${stock}:8080/`), 'the allowed identity may connect');
      await catalog.close('allow-catalog');
      const back = await awaitReach(
        frontend,
        `http://${stock}:8080/`,
        true,
        await context.writeMeshFile(FILE, NOTHING),
      );
      return `others: live cut after ${cut} ms, new refused ${refused} ms; the allowed one untouched; open again ${back} ms`;
    },
  },
  {
    id: 'policy.strict',
    async run(context) {
      const [frontend, cron] = [context.probe('shop/frontend'), context.probe('legacy/cron')];
      const stock = context.ip('shop/stock');
      expect(await cron.reaches(`http://${stock}:8080/`), 'plaintext is accepted before STRICT');
      await cron.open('strict-cron', stock, ECHO_PORT);
      const at = await context.writeMeshFile(FILE, STRICT);
      const cut = await awaitCut(cron, 'strict-cron', at);
      const refused = await awaitReach(cron, `http://${stock}:8080/`, false, at);
      expect(await frontend.reaches(`http://${stock}:8080/`), 'mutual TLS is accepted under STRICT');
      const back = await awaitReach(cron, `http://${stock}:8080/`, true, await context.writeMeshFile(FILE, NOTHING));
      return `plaintext: live cut after ${cut} ms, new refused ${refused} ms, accepted again ${back} ms; mutual TLS untouched`;
    },
  },
];

/** Milliseconds from `at` until the live connection was ended. */
async function awaitCut(probe: Probe, name: string, at: number): Promise<number> {
  const tookMs = (await within(`${name} is cut`, GIVE_UP_MS, probe.closedAt(name))) - at;
  expect(tookMs <= LIMIT_MS, `the live connection ${name} was cut after ${tookMs} ms, more than ${LIMIT_MS}`);
  return tookMs;
}

/** Milliseconds from `at` until new connections succeed (or fail). */
async function awaitReach(probe: Probe, url: string, wanted: boolean, at: number): Promise<number> {
  const what = `${probe.pod.key} ${wanted ? 'reaches' : 'does not reach'} ${url}`;
  await eventually(what, GIVE_UP_MS, async () => (await probe.reaches(url)) === wanted);
  const tookMs = Date.now() - at;
  expect(tookMs <= LIMIT_MS, `${what} only after ${tookMs} ms, more than ${LIMIT_MS}`);
  return tookMs;
}

/** Leaves the mesh as it was also when a check failed half way. */
export async function restorePolicies(context: CheckContext): Promise<void> {
  await context.removeMeshFile(FILE);
}
