/** The charts as a real API server takes them: rendered by helm, validated strictly, applied twice. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { webhookConfiguration } from '../../control/webhook/configuration.ts';
import { clusterBinary, missingBinaries } from '../support/cluster-binaries.ts';
import { createObjects, environmentOf, MESH_NAMESPACE, objectOfKind, renderChart } from '../support/control-chart.ts';
import { type KubeApi, openKubeApi } from '../support/kube-api.ts';
import { textAt, valueAt } from '../support/kube-api-call.ts';

const skip = missingBinaries(['helm']).length > 0 ? `needs ${clusterBinary('helm')}` : false;

describe('the charts of definitions and of the control plane', { skip }, () => {
  let api: KubeApi;
  before(async () => {
    api = await openKubeApi({ crds: false });
    await api.namespace(MESH_NAMESPACE);
  });
  after(() => api[Symbol.asyncDispose]());

  test('hold nothing that the API server does not know', async () => {
    const everything = ['global.networkPolicy.enabled=true', 'revision=canary', 'configValidation.failurePolicy=Fail'];
    await createObjects(api, renderChart('ambit-control', everything), 'Strict');
    const definitions = renderChart('ambit-base');
    assert.equal(definitions.filter((object) => textAt(object, 'kind') === 'CustomResourceDefinition').length, 4);
    await createObjects(api, definitions, 'Strict');
  });

  test('ask the webhook what the code answers', () => {
    const { webhooks } = webhookConfiguration({
      namespace: MESH_NAMESPACE,
      target: { service: 'istiod' },
      failurePolicy: 'Ignore',
    });
    assert.deepEqual(
      valueAt(objectOfKind(renderChart('ambit-control'), 'ValidatingWebhookConfiguration'), 'webhooks'),
      webhooks,
    );
  });

  test('put what a user sets where the control plane reads it', () => {
    const values = ['meshConfig.trustDomain=example.org', 'global.network=east', 'trustedZtunnelName=mine'];
    const objects = renderChart('ambit-control', values);
    const env = environmentOf(objects);
    assert.equal(env.get('TRUST_DOMAIN'), 'example.org');
    assert.equal(env.get('NETWORK'), 'east');
    assert.equal(env.get('CA_TRUSTED_NODE_ACCOUNTS'), `${MESH_NAMESPACE}/mine`);
    assert.match(textAt(objectOfKind(objects, 'ConfigMap'), 'data', 'mesh'), /trustDomain: example\.org/);
  });

  test('refuse values that they do not have, and those of the wrong kind', () => {
    const wrong = [
      'replicas=3',
      'configValidation.failurePolicy=Maybe',
      'taint.enable=false',
      'podDisruptionBudget=true',
    ];
    for (const value of wrong) {
      assert.throws(() => renderChart('ambit-control', [value]), /schema|additional|failurePolicy/i, value);
    }
  });

  test('have no disruption budget where it could only block, and no rights of parts that are off', () => {
    const objects = renderChart('ambit-control', [
      'replicaCount=1',
      'configValidation.enabled=false',
      'taint.enabled=false',
    ]);
    const kinds = objects.map((object) => textAt(object, 'kind'));
    assert.ok(!kinds.includes('PodDisruptionBudget') && !kinds.includes('ValidatingWebhookConfiguration'));
    const rules = JSON.stringify(valueAt(objectOfKind(objects, 'ClusterRole'), 'rules'));
    assert.doesNotMatch(rules, /validatingwebhookconfigurations|"nodes"\],"verbs":\["get"/);
    assert.equal(environmentOf(objects).get('AMBIT_WEBHOOK_LISTEN'), undefined);
  });
});
