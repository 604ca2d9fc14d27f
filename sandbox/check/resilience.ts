/** What happens while a process is gone: the agent (fail closed, taken up again), the control plane (nothing stops). */
import { readFile, stat } from 'node:fs/promises';
import { requireCommand } from '../command.ts';
import { MESH_PODS, netnsPath } from '../layout.ts';
import type { Check } from './check.ts';
import { type CheckContext, eventually, expect } from './context.ts';
import { restorePolicies } from './policy.ts';

const LATE_POD = 'shop/late';
const RESTORE_DEADLINE_MS = 15_000;
const CONTROL_DEADLINE_MS = 20_000;

const LATE_POD_FILE = `
apiVersion: v1
kind: Pod
metadata: { name: late, namespace: shop, labels: { app: late, version: v1 } }
spec:
  serviceAccountName: stock
  nodeSelector: { kubernetes.io/hostname: b }
  containers:
    - name: service
      command: [node, sandbox/apps/service.ts]
`;

export const resilienceChecks: readonly Check[] = [
  {
    id: 'agent.killed',
    async run(context) {
      const { b: agent } = context.sandbox.agents;
      const before = await podFacts(context);
      await agent.kill({ hold: true });
      try {
        const closed = await expectFailClosed(context);
        const waited = await expectNewPodWaits(context);
        agent.start();
        const readyMs = await context.sandbox.awaitAgent('b');
        const backMs = await expectTakenUp(context);
        const after = await podFacts(context);
        expect(after === before, `namespaces, processes and rules of the pods are untouched:\n${before}\n${after}`);
        return `${closed}; ${waited}; restarted: ready ${readyMs} ms, all captured ${backMs} ms later, pods untouched`;
      } finally {
        agent.start();
        await context.removeMeshFile(`${MESH_PODS}/late.yaml`);
        await eventually(
          'the late pod is gone',
          RESTORE_DEADLINE_MS,
          async () => context.sandbox.kubelet.findPod(LATE_POD) === undefined,
        );
      }
    },
  },
  {
    id: 'control.stopped',
    async run(context) {
      const frontend = context.probe('shop/frontend');
      const before = await context.certificates('a');
      await context.sandbox.control.kill({ hold: true });
      try {
        const answers = await frontend.http('http://catalog/items', { count: 40 });
        const failed = answers.filter((answer) => answer.status !== 200);
        expect(failed.length === 0, `${failed.length} of 40 calls failed without control plane: ${failed[0]?.error}`);
        const after = await context.certificates('a');
        expect(
          before.size > 0 && [...before.keys()].every((identity) => after.has(identity)),
          'certificates stay in use',
        );
      } finally {
        context.sandbox.control.start();
      }
      await context.sandbox.awaitControl();
      const reconnectedMs = await expectPolicyArrives(context);
      return `40 calls without loss, ${before.size} certificates kept; back: a policy arrives after ${reconnectedMs} ms`;
    },
  },
];

/** Nothing passes, neither through the tunnel nor around it, in or out. */
async function expectFailClosed(context: CheckContext): Promise<string> {
  const { frontend, catalog, cron } = {
    frontend: context.probe('shop/frontend'),
    catalog: context.probe('shop/catalog-v1'),
    cron: context.probe('legacy/cron'),
  };
  const stock = `http://${context.ip('shop/stock')}:8080/`;
  expect(!(await frontend.reaches(`http://${context.ip('shop/catalog-v1')}:8080/`)), 'a tunnel to the node fails');
  expect(!(await catalog.reaches(stock)), 'captured traffic inside the node fails');
  expect(!(await cron.reaches(stock)), 'plaintext to a captured pod fails');
  return 'tunnel, same node and plaintext fail closed';
}

async function expectNewPodWaits(context: CheckContext): Promise<string> {
  await context.writeMeshFile(`${MESH_PODS}/late.yaml`, LATE_POD_FILE);
  const late = () => context.sandbox.kubelet.findPod(LATE_POD);
  await eventually(
    'CNI ADD of a new pod is refused twice',
    RESTORE_DEADLINE_MS,
    async () => (late()?.addAttempts ?? 0) >= 2,
  );
  const pod = late();
  expect(
    pod?.process === undefined && pod?.state === 'waiting',
    `the new pod waits instead of running (${pod?.state})`,
  );
  return `a new pod waits (${(pod?.lastError?.message ?? '').slice(0, 90)})`;
}

async function expectTakenUp(context: CheckContext): Promise<number> {
  const catalogUrl = `http://${context.ip('shop/catalog-v1')}:8080/`;
  const stockUrl = `http://${context.ip('shop/stock')}:8080/`;
  const tookMs = await eventually('captured traffic flows again', RESTORE_DEADLINE_MS, async () => {
    if (!(await context.probe('shop/frontend').reaches(catalogUrl))) return false;
    return (
      (await context.probe('shop/catalog-v1').reaches(stockUrl)) &&
      (await context.probe('legacy/cron').reaches(stockUrl))
    );
  });
  await eventually('the pod that waited runs and is captured', RESTORE_DEADLINE_MS, async () => {
    const pod = context.sandbox.kubelet.findPod(LATE_POD);
    return pod?.state === 'running' && pod.enrolled;
  });
  return tookMs;
}

/** Namespace, process and rules of the pods of node b, as text. */
async function podFacts(context: CheckContext): Promise<string> {
  const lines: string[] = [];
  for (const key of ['shop/catalog-v1', 'shop/stock']) {
    const pod = context.pod(key);
    const { ino } = await stat(netnsPath(pod.netns));
    const pid = pod.process?.pid;
    const started = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(' ')[21];
    const rules = await requireCommand(['nft', '--stateless', 'list', 'ruleset'], { netns: pod.netns });
    const routing = await requireCommand(['ip', 'rule', 'show'], { netns: pod.netns });
    lines.push(`${key} netns ${ino} process ${pid} started ${started}\n${rules}${routing}`);
  }
  return lines.join('\n');
}

async function expectPolicyArrives(context: CheckContext): Promise<number> {
  const frontend = context.probe('shop/frontend');
  const url = `http://${context.ip('shop/stock')}:8080/`;
  const deny = [
    'apiVersion: security.istio.io/v1',
    'kind: AuthorizationPolicy',
    'metadata: { name: check-reconnect, namespace: shop }',
    'spec: { selector: { matchLabels: { app: stock } }, action: DENY, rules: [{}] }',
  ].join('\n');
  await context.writeMeshFile('policies/check.yaml', deny);
  const tookMs = await eventually(
    'agents follow the control plane again',
    CONTROL_DEADLINE_MS,
    async () => !(await frontend.reaches(url)),
  );
  await restorePolicies(context);
  await eventually('the policy is gone again', CONTROL_DEADLINE_MS, () => frontend.reaches(url));
  return tookMs;
}
