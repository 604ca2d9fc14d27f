/** A policy that was never valid, from a file to the wire: its scope is denied until it is corrected. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import {
  Action,
  type Authorization,
  AuthorizationSchema,
  Scope,
} from '../../api/gen/istio/security/authorization_pb.js';
import { AUTHORIZATION_TYPE } from '../../control/discovery/resource.ts';
import { ControlFixture, type TestStream } from '../support/control.ts';

const policy = (rule: string): string => `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {action: DENY, rules: [${rule}]}
`;

async function nextPolicy(stream: TestStream): Promise<Authorization> {
  const [resource] = (await stream.nextAcknowledged()).resources;
  assert.ok(resource?.resource);
  return fromBinary(AuthorizationSchema, resource.resource.value);
}

test('a policy that was never valid is served as a denial of its scope, until it is corrected', async (context) => {
  const fixture = await ControlFixture.start(context, {
    'a.yaml': policy('{from: [{source: {ipBlocks: [10.0.0.300]}}]}'),
  });
  const stream = await fixture.openStream();
  stream.send({ typeUrl: AUTHORIZATION_TYPE });
  const standIn = await nextPolicy(stream);
  assert.equal(standIn.action, Action.DENY);
  assert.equal(standIn.scope, Scope.NAMESPACE);
  assert.deepEqual(
    standIn.groups.map(({ rules }) => rules.length),
    [0],
    'one rule that always matches',
  );

  fixture.write('a.yaml', policy('{from: [{source: {ipBlocks: [10.0.0.30]}}]}'));
  const corrected = await nextPolicy(stream);
  assert.deepEqual(
    corrected.groups.map(({ rules }) => rules.length),
    [1],
  );
});
