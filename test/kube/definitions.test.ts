/** `ambit install --gateway-api <file>`: definitions from a file, at a real API server. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { applyDefinitions } from '../../cli/install/definitions.ts';
import type { KubeClient } from '../../kube/client.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { eventually } from '../support/eventually.ts';
import { gatewayApiDefinitions, type KubeApi, openKubeApi } from '../support/kube-api.ts';

let api: KubeApi;
let client: KubeClient;

before(async () => {
  api = await openKubeApi({ crds: false });
  client = api.admin();
});

after(async () => {
  client.close();
  await api[Symbol.asyncDispose]();
});

test('the definitions of the Gateway API are applied from one file, and once more without a change', async () => {
  const files = globSync(`${gatewayApiDefinitions()}/*.yaml`).sort();
  const text = files.map((file) => readFileSync(file, 'utf8')).join('\n---\n');
  const names = await applyDefinitions(client, text);
  assert.ok(names.includes('gateways.gateway.networking.k8s.io'), names.join(', '));
  assert.ok(names.includes('gatewayclasses.gateway.networking.k8s.io'), names.join(', '));
  await eventually('Gateways can be listed', () => client.list(RESOURCES.Gateway));
  const version = async (name: string): Promise<unknown> =>
    (await client.get(RESOURCES.CustomResourceDefinition, '', name)).metadata.generation;
  const before = await Promise.all(names.map(version));
  assert.deepEqual(await applyDefinitions(client, text), names);
  assert.deepEqual(await Promise.all(names.map(version)), before);
});

for (const [what, text, message] of [
  ['nothing', '', /holds no CustomResourceDefinition/],
  ['other objects only', 'kind: Namespace\nmetadata: { name: shop }\n', /holds no CustomResourceDefinition/],
  ['something that is no object', 'just words\n', /no Kubernetes object/],
] as const) {
  test(`a file with ${what} is refused before anything is applied`, async () => {
    await assert.rejects(applyDefinitions(client, text), { code: 'CONFIGURATION', message });
  });
}
