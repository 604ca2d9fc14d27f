/** Inheritance of mTLS modes and the DENY policies made of it, among them two cases that Istio gets wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Action, type Authorization, Scope } from '../../../api/gen/istio/security/authorization_pb.js';
import type { MtlsMode, PeerAuthentication } from '../../../control/objects/peer-authentication.ts';
import {
  convertPeerAuthentication,
  type MutualTlsLevels,
  mutualTlsPolicyKey,
  oldest,
  resolveMutualTls,
  staticStrictPolicy,
} from '../../../control/policy/mutual-tls.ts';
import { objectOf } from '../../support/control.ts';

const ROOT = 'istio-system';
const STATIC = 'istio-system/istio_converted_static_strict';
const CONVERTED = 'shop/converted_peer_authentication_web';

function level(namespace: string, mode: MtlsMode | undefined): PeerAuthentication | undefined {
  if (mode === undefined) return undefined;
  return objectOf(
    'PeerAuthentication',
    `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: all, namespace: ${namespace}}, spec: {mtls: {mode: ${mode}}}}`,
  );
}

function workload(mode: MtlsMode, ports: Record<number, MtlsMode>): PeerAuthentication {
  return objectOf(
    'PeerAuthentication',
    JSON.stringify({
      apiVersion: 'security.istio.io/v1',
      kind: 'PeerAuthentication',
      metadata: { name: 'web', namespace: 'shop' },
      spec: {
        selector: { matchLabels: { app: 'web' } },
        mtls: { mode },
        portLevelMtls: Object.fromEntries(Object.entries(ports).map(([port, of]) => [port, { mode: of }])),
      },
    }),
  );
}

/** `plain unless 1,2`: plaintext is refused except on 1 and 2. `plain on 1`: refused on 1 only. */
function meaning(authorization: Authorization | undefined): string {
  if (authorization === undefined) return 'nothing';
  assert.equal(authorization.action, Action.DENY);
  assert.equal(authorization.scope, Scope.WORKLOAD_SELECTOR);
  return authorization.groups
    .map((group) =>
      group.rules
        .map((rule) =>
          rule.matches
            .map((match) =>
              [
                ...match.notPrincipals.map((text) => (text.matchType.case === 'presence' ? 'plain' : '?')),
                ...match.destinationPorts.map((port) => `on ${port}`),
                ...match.notDestinationPorts.map((port) => `not ${port}`),
              ].join(' '),
            )
            .join(' | '),
        )
        .join(' & '),
    )
    .join(' OR ');
}

type Modes = [mesh: MtlsMode | undefined, namespace: MtlsMode | undefined, workload: PeerAuthentication | undefined];

const CASES: [name: string, modes: Modes, key: string | undefined, policy: string][] = [
  ['nothing stated: plaintext is welcome', [undefined, undefined, undefined], undefined, 'nothing'],
  ['mesh STRICT', ['STRICT', undefined, undefined], STATIC, 'nothing'],
  ['mesh PERMISSIVE', ['PERMISSIVE', undefined, undefined], undefined, 'nothing'],
  ['mesh DISABLE counts as PERMISSIVE', ['DISABLE', undefined, undefined], undefined, 'nothing'],
  ['namespace STRICT over mesh PERMISSIVE', ['PERMISSIVE', 'STRICT', undefined], STATIC, 'nothing'],
  ['namespace PERMISSIVE over mesh STRICT', ['STRICT', 'PERMISSIVE', undefined], undefined, 'nothing'],
  ['namespace UNSET inherits mesh STRICT', ['STRICT', 'UNSET', undefined], STATIC, 'nothing'],
  ['workload STRICT over all', ['PERMISSIVE', 'PERMISSIVE', workload('STRICT', {})], STATIC, 'nothing'],
  ['workload PERMISSIVE over all', ['STRICT', 'STRICT', workload('PERMISSIVE', {})], undefined, 'nothing'],
  ['workload UNSET inherits namespace STRICT', [undefined, 'STRICT', workload('UNSET', {})], STATIC, 'nothing'],
  [
    'workload STRICT with permissive ports: one group, all of its clauses must hold',
    [undefined, undefined, workload('STRICT', { 9090: 'PERMISSIVE', 8080: 'DISABLE' })],
    CONVERTED,
    'plain & not 8080 & not 9090',
  ],
  [
    'workload PERMISSIVE with strict ports: one group per port',
    [undefined, undefined, workload('PERMISSIVE', { 8080: 'STRICT', 9090: 'STRICT' })],
    CONVERTED,
    'plain on 8080 OR plain on 9090',
  ],
  [
    'workload DISABLE with a strict port',
    ['STRICT', 'STRICT', workload('DISABLE', { 8080: 'STRICT' })],
    CONVERTED,
    'plain on 8080',
  ],
  [
    'workload UNSET under a strict namespace with a permissive port',
    [undefined, 'STRICT', workload('UNSET', { 8080: 'PERMISSIVE' })],
    CONVERTED,
    'plain & not 8080',
  ],
  [
    'workload UNSET under a permissive namespace with a strict port',
    ['STRICT', 'PERMISSIVE', workload('UNSET', { 8080: 'STRICT' })],
    CONVERTED,
    'plain on 8080',
  ],
  [
    'workload UNSET, nothing above, strict port',
    [undefined, undefined, workload('UNSET', { 8080: 'STRICT' })],
    CONVERTED,
    'plain on 8080',
  ],
  [
    'all ports strict under STRICT: the static policy',
    [undefined, undefined, workload('STRICT', { 80: 'STRICT' })],
    STATIC,
    'nothing',
  ],
  [
    'permissive port under PERMISSIVE: nothing',
    [undefined, undefined, workload('PERMISSIVE', { 80: 'DISABLE' })],
    undefined,
    'nothing',
  ],
  ['port UNSET inherits the workload', [undefined, undefined, workload('STRICT', { 80: 'UNSET' })], STATIC, 'nothing'],
  [
    'mixed ports: only those that differ count',
    [undefined, undefined, workload('STRICT', { 80: 'STRICT', 81: 'UNSET', 82: 'PERMISSIVE' })],
    CONVERTED,
    'plain & not 82',
  ],
  [
    'gap (a): strict parent, workload UNSET, port DISABLE keeps its exception',
    ['STRICT', undefined, workload('UNSET', { 8080: 'DISABLE' })],
    CONVERTED,
    'plain & not 8080',
  ],
  [
    'gap (b): mesh STRICT, namespace UNSET, workload UNSET, port PERMISSIVE stays strict elsewhere',
    ['STRICT', 'UNSET', workload('UNSET', { 8080: 'PERMISSIVE' })],
    CONVERTED,
    'plain & not 8080',
  ],
];

for (const [name, [mesh, namespace, selected], key, policy] of CASES) {
  test(name, () => {
    const levels: MutualTlsLevels = {
      mesh: level(ROOT, mesh),
      namespace: level('shop', namespace),
      workload: selected,
    };
    assert.equal(mutualTlsPolicyKey(levels, ROOT), key);
    assert.equal(meaning(convertPeerAuthentication(levels)), policy);
  });
}

test('a workload never names a policy that is not made, and every policy made is named', () => {
  const modes: (MtlsMode | undefined)[] = [undefined, 'UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT'];
  const stated = modes.filter((mode) => mode !== undefined);
  for (const mesh of modes) {
    for (const namespace of modes) {
      for (const own of stated) {
        for (const port of [undefined, ...stated]) {
          const selected = workload(own, port === undefined ? {} : { 8080: port });
          const levels = { mesh: level(ROOT, mesh), namespace: level('shop', namespace), workload: selected };
          const made = convertPeerAuthentication(levels);
          const key = mutualTlsPolicyKey(levels, ROOT);
          assert.equal(key === CONVERTED, made !== undefined, JSON.stringify([mesh, namespace, own, port]));
          // Stated independently of the code: is plaintext refused on the port, and on another port?
          const inherited =
            [own, namespace, mesh].find((mode) => mode !== undefined && mode !== 'UNSET') ?? 'PERMISSIVE';
          const onPort = port === undefined || port === 'UNSET' ? inherited : port;
          const resolved = resolveMutualTls(levels);
          assert.equal(resolved.mode === 'STRICT', inherited === 'STRICT');
          assert.equal(resolved.exceptions.includes(8080), (onPort === 'STRICT') !== (inherited === 'STRICT'));
        }
      }
    }
  }
});

test('the static policy refuses every connection without an identity', () => {
  assert.equal(meaning(staticStrictPolicy(ROOT)), 'plain');
});

test('the oldest object of a level counts, by name where ages are equal', () => {
  const make = (name: string, created: string | undefined): PeerAuthentication =>
    objectOf(
      'PeerAuthentication',
      JSON.stringify({
        apiVersion: 'security.istio.io/v1',
        kind: 'PeerAuthentication',
        metadata: { name, namespace: 'shop', creationTimestamp: created },
      }),
    );
  const young = make('a', '2026-02-01T00:00:00Z');
  const old = make('z', '2026-01-01T00:00:00Z');
  assert.equal(oldest([young, old, make('0', undefined)]), old);
  assert.equal(oldest([make('b', undefined), make('a', undefined)])?.meta.name, 'a');
  assert.equal(oldest([]), undefined);
});
