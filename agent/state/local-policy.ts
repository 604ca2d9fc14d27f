/** One entry of `policies` in the local configuration. `rules` is a list of rules, a rule a list of clauses of matches. */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  Action,
  AuthorizationSchema,
  type MatchSchema,
  Scope,
  type StringMatchSchema,
} from '../../api/gen/istio/security/authorization_pb.js';
import { parseCidr } from '../../core/ip.ts';
import { policyKey } from './policy.ts';
import type { EncodedResource } from './resource.ts';
import type { YamlNode } from './yaml-reader.ts';

const REQUIRED = ['name', 'namespace', 'scope', 'action', 'rules'] as const;
const SCOPES = { Global: Scope.GLOBAL, Namespace: Scope.NAMESPACE, WorkloadSelector: Scope.WORKLOAD_SELECTOR };
const ACTIONS = { Allow: Action.ALLOW, Deny: Action.DENY };
const MATCH_FIELDS = [
  'namespaces',
  'notNamespaces',
  'principals',
  'notPrincipals',
  'serviceAccounts',
  'notServiceAccounts',
  'sourceIps',
  'notSourceIps',
  'destinationIps',
  'notDestinationIps',
  'destinationPorts',
  'notDestinationPorts',
] as const;

export function localPolicy(node: YamlNode): EncodedResource {
  const field = node.fields([...REQUIRED, 'dryRun'], REQUIRED);
  const name = field('name').text();
  const namespace = field('namespace').text();
  const message = create(AuthorizationSchema, {
    name,
    namespace,
    scope: field('scope').choice(SCOPES, Scope.GLOBAL),
    action: field('action').choice(ACTIONS, Action.DENY),
    dryRun: field('dryRun').boolean(),
    groups: field('rules')
      .list()
      .map((rule) => ({ rules: rule.list().map((clause) => ({ matches: clause.list().map(localMatch) })) })),
  });
  return { name: policyKey(namespace, name), version: '', bytes: toBinary(AuthorizationSchema, message) };
}

function localMatch(node: YamlNode): MessageInitShape<typeof MatchSchema> {
  const field = node.fields(MATCH_FIELDS);
  return {
    namespaces: field('namespaces').list().map(stringMatch),
    notNamespaces: field('notNamespaces').list().map(stringMatch),
    principals: field('principals').list().map(stringMatch),
    notPrincipals: field('notPrincipals').list().map(stringMatch),
    serviceAccounts: field('serviceAccounts').list().map(serviceAccount),
    notServiceAccounts: field('notServiceAccounts').list().map(serviceAccount),
    sourceIps: field('sourceIps').list().map(block),
    notSourceIps: field('notSourceIps').list().map(block),
    destinationIps: field('destinationIps').list().map(block),
    notDestinationIps: field('notDestinationIps').list().map(block),
    destinationPorts: field('destinationPorts').list().map(port),
    notDestinationPorts: field('notDestinationPorts').list().map(port),
  };
}

function stringMatch(node: YamlNode): MessageInitShape<typeof StringMatchSchema> {
  if (node.value === 'Presence') return { matchType: { case: 'presence', value: {} } };
  const field = node.fields(['Exact', 'Prefix', 'Suffix']);
  const given = (['Exact', 'Prefix', 'Suffix'] as const).filter((kind) => field(kind).isPresent);
  const [kind] = given;
  if (kind === undefined || given.length > 1) {
    node.problem('Presence or one of {Exact: ...}, {Prefix: ...}, {Suffix: ...}');
    return {};
  }
  const value = field(kind).text();
  switch (kind) {
    case 'Exact':
      return { matchType: { case: 'exact', value } };
    case 'Prefix':
      return { matchType: { case: 'prefix', value } };
    case 'Suffix':
      return { matchType: { case: 'suffix', value } };
  }
}

function serviceAccount(node: YamlNode) {
  const field = node.fields(['namespace', 'serviceAccount'], ['namespace', 'serviceAccount']);
  return { namespace: field('namespace').text(), serviceAccount: field('serviceAccount').text() };
}

function block(node: YamlNode) {
  const parsed = node.parsed('an address or a block <ip>/<length>', parseCidr);
  return { address: parsed?.bytes ?? new Uint8Array(), length: parsed?.prefixLength ?? 0 };
}

function port(node: YamlNode): number {
  return node.number(65535);
}
