/**
 * `istio.security.Authorization` to a `Policy`. A part that cannot be read (a string match without a type, a block that
 * is none, a port beyond 65535, an unknown scope or action) refuses the whole policy: leaving it out would widen a rule.
 */
import {
  Action,
  type Authorization,
  type Address as BlockMessage,
  type Match as MatchMessage,
  Scope,
  type StringMatch as StringMatchMessage,
} from '../../api/gen/istio/security/authorization_pb.js';
import { cidr, enumeration, name, portOrZero, refuse } from './decode-fields.ts';
import { type Policy, type PolicyMatch, type PolicyScope, policyKey, type StringMatch } from './policy.ts';

const SCOPES: Readonly<Record<number, PolicyScope>> = {
  [Scope.GLOBAL]: 'GLOBAL',
  [Scope.NAMESPACE]: 'NAMESPACE',
  [Scope.WORKLOAD_SELECTOR]: 'WORKLOAD_SELECTOR',
};
const ACTIONS = { [Action.ALLOW]: 'ALLOW', [Action.DENY]: 'DENY' } as const;

/** Throws `AmbitError('DECODE')` when any part of the policy is not understood. */
export function decodePolicy(message: Authorization): Policy {
  const namespace = name('namespace', message.namespace);
  const policyName = name('name', message.name);
  return {
    key: policyKey(namespace, policyName),
    name: policyName,
    namespace,
    scope: enumeration('scope', SCOPES, message.scope),
    action: enumeration('action', ACTIONS, message.action),
    dryRun: message.dryRun,
    rules: message.groups.map((group) => ({
      clauses: group.rules.map((clause) => ({ matches: clause.matches.map(decodeMatch) })),
    })),
  };
}

function decodeMatch(message: MatchMessage): PolicyMatch {
  const match = {
    namespaces: message.namespaces.map(decodeStringMatch),
    notNamespaces: message.notNamespaces.map(decodeStringMatch),
    principals: message.principals.map(decodeStringMatch),
    notPrincipals: message.notPrincipals.map(decodeStringMatch),
    serviceAccounts: message.serviceAccounts.map(plainAccount),
    notServiceAccounts: message.notServiceAccounts.map(plainAccount),
    sourceIps: message.sourceIps.map(decodeBlock),
    notSourceIps: message.notSourceIps.map(decodeBlock),
    destinationIps: message.destinationIps.map(decodeBlock),
    notDestinationIps: message.notDestinationIps.map(decodeBlock),
    destinationPorts: message.destinationPorts.map(decodePort),
    notDestinationPorts: message.notDestinationPorts.map(decodePort),
  };
  return { ...match, empty: Object.values(match).every((list) => list.length === 0) };
}

function decodeStringMatch({ matchType }: StringMatchMessage): StringMatch {
  switch (matchType.case) {
    case 'exact':
    case 'prefix':
    case 'suffix':
      return { kind: matchType.case, value: matchType.value };
    case 'presence':
      return { kind: 'presence' };
    case undefined:
      return refuse('match', 'has a string match without a known type');
  }
}

function plainAccount({ namespace, serviceAccount }: { namespace: string; serviceAccount: string }) {
  return { namespace, serviceAccount };
}

function decodeBlock(message: BlockMessage) {
  return cidr('match', message.address, message.length);
}

function decodePort(value: number): number {
  return portOrZero('match.destination_ports', value);
}
