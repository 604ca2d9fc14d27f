/**
 * Whether a policy matches a connection. Pure; what is derived from the facts (parts of the identity, bytes of the
 * addresses) is derived once per connection, when the first policy asks for it.
 *
 * Levels: any rule; in a rule all clauses; in a clause any match; in a match every kind of attribute. Within a kind any
 * of the positive values (an empty list agrees) and none of the negative ones. A client without identity has the
 * namespace "", and no principal and no service account that any value could match.
 */
import { type CidrBlock, cidrContains, ipToBytes } from '../../core/ip.ts';
import { parseSpiffeId, type SpiffeParts } from '../../core/spiffe.ts';
import type { Policy, PolicyClause, PolicyMatch, ServiceAccountMatch, StringMatch } from '../state/policy.ts';
import type { ConnectionFacts } from './authorize.ts';

const SCHEME_LENGTH = 'spiffe://'.length;

/** The facts of one connection in the forms that matching needs. */
export class Subject {
  readonly #facts: ConnectionFacts;
  #parts: SpiffeParts | undefined;
  #sourceBytes: Uint8Array | undefined;
  #destinationBytes: Uint8Array | undefined;

  constructor(facts: ConnectionFacts) {
    this.#facts = facts;
  }

  get identity(): string | undefined {
    return this.#facts.source;
  }

  get port(): number {
    return this.#facts.destinationPort;
  }

  /** Namespace and service account of the identity; undefined for plaintext. */
  get parts(): SpiffeParts | undefined {
    if (this.#parts === undefined && this.#facts.source !== undefined) this.#parts = parseSpiffeId(this.#facts.source);
    return this.#parts;
  }

  get sourceBytes(): Uint8Array {
    this.#sourceBytes ??= ipToBytes(this.#facts.sourceIp);
    return this.#sourceBytes;
  }

  get destinationBytes(): Uint8Array {
    this.#destinationBytes ??= ipToBytes(this.#facts.destinationIp);
    return this.#destinationBytes;
  }
}

export function policyMatches(policy: Policy, subject: Subject): boolean {
  for (const { clauses } of policy.rules) if (allClausesMatch(clauses, subject)) return true;
  return false;
}

function allClausesMatch(clauses: readonly PolicyClause[], subject: Subject): boolean {
  for (const { matches } of clauses) if (matches.length > 0 && !anyMatches(matches, subject)) return false;
  return true;
}

function anyMatches(matches: readonly PolicyMatch[], subject: Subject): boolean {
  for (const match of matches) if (!match.empty && allKindsMatch(match, subject)) return true;
  return false;
}

function allKindsMatch(match: PolicyMatch, subject: Subject): boolean {
  return (
    agrees(match.destinationPorts, match.notDestinationPorts, isPort, subject) &&
    agrees(match.principals, match.notPrincipals, isPrincipal, subject) &&
    agrees(match.namespaces, match.notNamespaces, isNamespace, subject) &&
    agrees(match.serviceAccounts, match.notServiceAccounts, isServiceAccount, subject) &&
    agrees(match.sourceIps, match.notSourceIps, isSourceIp, subject) &&
    agrees(match.destinationIps, match.notDestinationIps, isDestinationIp, subject)
  );
}

function agrees<Value>(
  wanted: readonly Value[],
  unwanted: readonly Value[],
  test: (value: Value, subject: Subject) => boolean,
  subject: Subject,
): boolean {
  return (wanted.length === 0 || some(wanted, test, subject)) && !some(unwanted, test, subject);
}

function some<Value>(
  values: readonly Value[],
  test: (value: Value, subject: Subject) => boolean,
  subject: Subject,
): boolean {
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value !== undefined && test(value, subject)) return true;
  }
  return false;
}

function isPort(port: number, subject: Subject): boolean {
  return port === subject.port;
}

/** Compares the identity without its scheme, in place. */
function isPrincipal(wanted: StringMatch, { identity }: Subject): boolean {
  if (identity === undefined) return false;
  if (wanted.kind === 'presence') return identity.length > SCHEME_LENGTH;
  const spare = identity.length - SCHEME_LENGTH - wanted.value.length;
  if (spare < 0) return false;
  if (wanted.kind === 'suffix') return identity.endsWith(wanted.value);
  return (wanted.kind === 'prefix' || spare === 0) && identity.startsWith(wanted.value, SCHEME_LENGTH);
}

function isNamespace(wanted: StringMatch, subject: Subject): boolean {
  const namespace = subject.parts?.namespace ?? '';
  switch (wanted.kind) {
    case 'exact':
      return namespace === wanted.value;
    case 'prefix':
      return namespace.startsWith(wanted.value);
    case 'suffix':
      return namespace.endsWith(wanted.value);
    case 'presence':
      return namespace !== '';
  }
}

function isServiceAccount(wanted: ServiceAccountMatch, { parts }: Subject): boolean {
  return parts !== undefined && parts.namespace === wanted.namespace && parts.serviceAccount === wanted.serviceAccount;
}

function isSourceIp(block: CidrBlock, subject: Subject): boolean {
  return cidrContains(block, subject.sourceBytes);
}

function isDestinationIp(block: CidrBlock, subject: Subject): boolean {
  return cidrContains(block, subject.destinationBytes);
}
