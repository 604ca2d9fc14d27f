import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { policyMatches, Subject } from '../../../agent/route/match.ts';
import type { AuthorizationSchema, MatchSchema } from '../../../api/gen/istio/security/authorization_pb.js';
import { getIp, parseCidr } from '../../../core/ip.ts';
import { isSpiffeId } from '../../../core/spiffe.ts';
import { meshOf, policy } from '../../support/mesh-resources.ts';

type Match = MessageInitShape<typeof MatchSchema>;
type Groups = MessageInitShape<typeof AuthorizationSchema>['groups'];

interface Connection {
  readonly source?: string;
  readonly sourceIp?: string;
  readonly destinationIp?: string;
  readonly port?: number;
}

const TLS: Connection = { source: 'spiffe://td1/ns/ns1/sa/sa1' };
const OTHER_TLS: Connection = { source: 'spiffe://td2/ns/ns2/sa/sa2' };
const PLAINTEXT: Connection = {};

function matches(groups: Groups, connection: Connection): boolean {
  const found = meshOf(policy('p', { groups: groups ?? [] })).findPolicy('default/p');
  assert.ok(found);
  const { source, sourceIp = '127.0.0.1', destinationIp = '127.0.0.2', port = 8080 } = connection;
  assert.ok(source === undefined || isSpiffeId(source));
  return policyMatches(
    found,
    new Subject({ source, sourceIp: getIp(sourceIp), destinationIp: getIp(destinationIp), destinationPort: port }),
  );
}

const one = (...list: Match[]): Groups => [{ rules: [{ matches: list }] }];
const exact = (value: string) => ({ matchType: { case: 'exact', value } }) as const;
const prefix = (value: string) => ({ matchType: { case: 'prefix', value } }) as const;
const suffix = (value: string) => ({ matchType: { case: 'suffix', value } }) as const;
const presence = { matchType: { case: 'presence', value: {} } } as const;

function block(text: string) {
  const parsed = parseCidr(text);
  assert.ok(parsed, text);
  return { address: parsed.bytes, length: parsed.prefixLength };
}

/** Rows of: what the rule says, then whether plaintext, the first and the other identity match. */
function triples(rows: readonly (readonly [string, Groups, boolean, boolean, boolean])[]): void {
  for (const [name, groups, plaintext, tls, other] of rows)
    test(name, () => {
      const found = [PLAINTEXT, TLS, OTHER_TLS].map((connection) => matches(groups, connection));
      assert.deepEqual(found, [plaintext, tls, other]);
    });
}

describe('empty levels', () => {
  triples([
    ['a policy without rules never matches', [], false, false, false],
    ['a rule without clauses always matches', [{}], true, true, true],
    ['a clause without matches matches', [{ rules: [{}] }], true, true, true],
    ['a match without fields never matches', one({}), false, false, false],
    [
      'a match without fields beside another is passed over',
      one({}, { namespaces: [exact('ns1')] }),
      false,
      true,
      false,
    ],
    ['a clause of empty matches fails its rule', [{ rules: [{}, { matches: [{}] }] }], false, false, false],
  ]);
});

describe('nesting', () => {
  const ns1 = { namespaces: [exact('ns1')] };
  const ns2 = { namespaces: [exact('ns2')] };
  const sa1 = { serviceAccounts: [{ namespace: 'ns1', serviceAccount: 'sa1' }] };
  triples([
    ['one match of a clause is enough', one(ns1, ns2), false, true, true],
    [
      'every clause of a rule is needed',
      [{ rules: [{ matches: [ns1, ns2] }, { matches: [sa1] }] }],
      false,
      true,
      false,
    ],
    [
      'clauses that exclude each other never match',
      [{ rules: [{ matches: [ns1] }, { matches: [ns2] }] }],
      false,
      false,
      false,
    ],
    [
      'one rule of a policy is enough',
      [{ rules: [{ matches: [ns1] }] }, { rules: [{ matches: [ns2] }] }],
      false,
      true,
      true,
    ],
    ['every kind of a match is needed', one({ ...ns1, destinationPorts: [1] }), false, false, false],
    ['within a kind one value is enough', one({ namespaces: [exact('x'), exact('ns2')] }), false, false, true],
    [
      'positive and negative of one kind are both needed',
      one({ namespaces: [prefix('ns')], notNamespaces: [exact('ns2')] }),
      false,
      true,
      false,
    ],
  ]);
});

describe('identities', () => {
  triples([
    ['namespaces', one({ namespaces: [exact('ns1')] }), false, true, false],
    ['notNamespaces', one({ notNamespaces: [exact('ns1')] }), true, false, true],
    ['the namespace of plaintext is empty', one({ namespaces: [exact('')] }), true, false, false],
    ['principals have no scheme', one({ principals: [exact('td1/ns/ns1/sa/sa1')] }), false, true, false],
    [
      'a principal with scheme is another text',
      one({ principals: [exact('spiffe://td1/ns/ns1/sa/sa1')] }),
      false,
      false,
      false,
    ],
    ['notPrincipals', one({ notPrincipals: [exact('td1/ns/ns1/sa/sa1')] }), true, false, true],
    ['any principal', one({ principals: [presence] }), false, true, true],
    ['no principal', one({ notPrincipals: [presence] }), true, false, false],
    ['an empty prefix of a principal still needs one', one({ principals: [prefix('')] }), false, true, true],
    [
      'serviceAccounts, whatever the trust domain',
      one({ serviceAccounts: [{ namespace: 'ns2', serviceAccount: 'sa2' }] }),
      false,
      false,
      true,
    ],
    [
      'the service account needs its namespace',
      one({ serviceAccounts: [{ namespace: 'ns1', serviceAccount: 'sa2' }] }),
      false,
      false,
      false,
    ],
    [
      'notServiceAccounts',
      one({ notServiceAccounts: [{ namespace: 'ns1', serviceAccount: 'sa1' }] }),
      true,
      false,
      true,
    ],
  ]);
});

describe('strings', () => {
  const rows: [string, Match, boolean][] = [
    ['exact equal', { namespaces: [exact('ns1')] }, true],
    ['exact of another case', { namespaces: [exact('NS1')] }, false],
    ['exact of a part', { namespaces: [exact('ns')] }, false],
    ['prefix', { namespaces: [prefix('ns')] }, true],
    ['prefix that is the whole', { namespaces: [prefix('ns1')] }, true],
    ['prefix that is longer', { namespaces: [prefix('ns12')] }, false],
    ['suffix', { namespaces: [suffix('s1')] }, true],
    ['suffix of another end', { namespaces: [suffix('s2')] }, false],
    ['presence', { namespaces: [presence] }, true],
    ['principal prefix', { principals: [prefix('td1/ns/')] }, true],
    ['principal prefix of the scheme', { principals: [prefix('spiffe')] }, false],
    ['principal suffix', { principals: [suffix('/sa/sa1')] }, true],
    ['principal suffix that is the whole', { principals: [suffix('td1/ns/ns1/sa/sa1')] }, true],
    ['principal suffix that reaches into the scheme', { principals: [suffix('/td1/ns/ns1/sa/sa1')] }, false],
    ['principal exact of a part', { principals: [exact('td1/ns/ns1/sa/sa')] }, false],
  ];
  for (const [name, match, expected] of rows) test(name, () => assert.equal(matches(one(match), TLS), expected));
});

describe('addresses and ports', () => {
  const rows: [string, Match, Connection, boolean][] = [
    ['sourceIps', { sourceIps: [block('127.0.0.1')] }, {}, true],
    ['sourceIps of another', { sourceIps: [block('127.0.0.3')] }, {}, false],
    ['notSourceIps', { notSourceIps: [block('127.0.0.1')] }, {}, false],
    ['notSourceIps of another', { notSourceIps: [block('127.0.0.3')] }, {}, true],
    ['destinationIps', { destinationIps: [block('127.0.0.2')] }, {}, true],
    ['destinationIps is not about the source', { destinationIps: [block('127.0.0.1')] }, {}, false],
    ['notDestinationIps', { notDestinationIps: [block('127.0.0.2')] }, {}, false],
    ['a block', { sourceIps: [block('10.0.0.0/8')] }, { sourceIp: '10.255.0.1' }, true],
    ['outside of a block', { sourceIps: [block('10.0.0.0/8')] }, { sourceIp: '11.0.0.1' }, false],
    ['a block with a bit length', { sourceIps: [block('10.0.0.128/25')] }, { sourceIp: '10.0.0.127' }, false],
    ['every IPv4 address', { sourceIps: [block('0.0.0.0/0')] }, { sourceIp: '10.0.0.1' }, true],
    ['families do not match each other', { sourceIps: [block('0.0.0.0/0')] }, { sourceIp: '2001:db8::1' }, false],
    ['an IPv6 block', { sourceIps: [block('2001:db8::/33')] }, { sourceIp: '2001:db8:7fff::1' }, true],
    ['outside of an IPv6 block', { sourceIps: [block('2001:db8::/33')] }, { sourceIp: '2001:db8:8000::1' }, false],
    [
      'a block of mapped addresses is the IPv4 block',
      { sourceIps: [{ address: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 0), length: 104 }] },
      { sourceIp: '10.1.1.1' },
      true,
    ],
    ['destinationPorts', { destinationPorts: [80, 8080] }, {}, true],
    ['destinationPorts of another', { destinationPorts: [80] }, {}, false],
    ['notDestinationPorts', { notDestinationPorts: [8080] }, {}, false],
    ['notDestinationPorts of another', { notDestinationPorts: [80] }, {}, true],
  ];
  for (const [name, match, connection, expected] of rows)
    test(name, () => assert.equal(matches(one(match), connection), expected));
});
