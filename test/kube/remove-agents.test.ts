/** `ambit uninstall` believes only what agents say about this removal. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { removeAgents } from '../../cli/install/remove-agents.ts';
import { REMOVAL_EVENT } from '../../core/enrolment/removal.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';

const NAMESPACE = 'istio-system';
let api: KubeApi;
before(async () => {
  api = await openKubeApi({ crds: false });
  await api.namespace(NAMESPACE);
  await api.call('POST', `/api/v1/namespaces/${NAMESPACE}/serviceaccounts`, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'ambit-agent' },
  });
});
after(() => api[Symbol.asyncDispose]());

test('what an agent told of a removal a second ago does not prove that the next one cleaned up', async () => {
  await tell('node1');
  await startAgent('node1');
  await startAgent('node2');
  const removed = removeAgents(api.admin(), NAMESPACE, 5_000);
  // Some calls later than those of the removal that look at what was told before.
  await new Promise((resolve) => setTimeout(resolve, 500));
  await tell('node2');
  for (const node of ['node1', 'node2']) {
    await api.call('DELETE', `/api/v1/namespaces/${NAMESPACE}/pods/agent-${node}?gracePeriodSeconds=0`);
  }
  assert.deepEqual(
    (await removed).map(({ node, ok }) => [node, ok]),
    [
      ['node1', false],
      ['node2', true],
    ],
  );
});

async function startAgent(node: string): Promise<void> {
  await api.call('POST', `/api/v1/namespaces/${NAMESPACE}/pods`, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `agent-${node}`, labels: { 'app.kubernetes.io/name': 'ambit-agent' } },
    spec: { nodeName: node, serviceAccountName: 'ambit-agent', containers: [{ name: 'a', image: 'localhost/none:1' }] },
  });
}

async function tell(node: string): Promise<void> {
  await api.call('POST', '/apis/events.k8s.io/v1/namespaces/default/events', {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name: `removed-${node}`, namespace: 'default' },
    eventTime: new Date().toISOString().replace('Z', '000Z'),
    reportingController: 'ambit.io/agent',
    reportingInstance: `agent-${node}`,
    action: 'Remove',
    reason: REMOVAL_EVENT,
    type: 'Normal',
    regarding: { apiVersion: 'v1', kind: 'Node', name: node },
    note: 'all is gone',
  });
}
