/**
 * AuthorizationPolicy (security.istio.io): rules as alternatives of L4 attributes plus the names of the L7 attributes
 * that stand beside them. Unknown fields are refused: a misspelt restriction must not widen a policy.
 */

import {
  type Decoder,
  decode,
  filledList,
  list,
  mapped,
  object,
  oneOf,
  optional,
  type Path,
  type Report,
  string,
  withDefault,
} from '../../core/decoder.ts';
import type { CidrBlock } from '../../core/ip.ts';
import {
  cidrBlocks,
  namespaceMatches,
  ports,
  principalMatches,
  type ServiceAccountName,
  serviceAccounts,
  type TextMatch,
} from './match-values.ts';
import { metadata, type ObjectMeta, workloadSelector } from './metadata.ts';

/** Attributes an agent can check; absent means "no condition". All given ones must agree. */
export interface L4Match {
  readonly namespaces?: readonly TextMatch[] | undefined;
  readonly notNamespaces?: readonly TextMatch[] | undefined;
  readonly principals?: readonly TextMatch[] | undefined;
  readonly notPrincipals?: readonly TextMatch[] | undefined;
  readonly sourceIps?: readonly CidrBlock[] | undefined;
  readonly notSourceIps?: readonly CidrBlock[] | undefined;
  readonly destinationIps?: readonly CidrBlock[] | undefined;
  readonly notDestinationIps?: readonly CidrBlock[] | undefined;
  readonly destinationPorts?: readonly number[] | undefined;
  readonly notDestinationPorts?: readonly number[] | undefined;
  readonly serviceAccounts?: readonly ServiceAccountName[] | undefined;
  readonly notServiceAccounts?: readonly ServiceAccountName[] | undefined;
}

export interface MatchTerm {
  readonly l4: L4Match;
  /** Attributes that only a waypoint can check, as the user wrote them. */
  readonly l7: readonly string[];
  /** Where it stands in the object: `rules[0].to[0].operation`. */
  readonly field: string;
}

/** A rule matches when each clause has a matching term. No clause: it always matches. */
export interface PolicyRule {
  readonly clauses: readonly (readonly MatchTerm[])[];
}

/** What a policy with `targetRefs` is attached to; always in the namespace of the policy, except a GatewayClass. */
export interface PolicyTarget {
  /** API group; empty for Service. */
  readonly group: string;
  readonly kind: string;
  readonly name: string;
}

export interface AuthorizationPolicy {
  readonly kind: 'AuthorizationPolicy';
  readonly meta: ObjectMeta;
  readonly action: 'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM';
  /** Undefined: the whole namespace (or mesh). */
  readonly selector: ReadonlyMap<string, string> | undefined;
  /** Not empty: attached to a Service, ServiceEntry, Gateway or GatewayClass, and so not the agents' business. */
  readonly targets: readonly PolicyTarget[];
  readonly rules: readonly PolicyRule[];
  readonly dryRun: boolean;
  /** What is wrong with the object that this one stands in for (policy-stand-in.ts); undefined for a policy as written. */
  readonly standsInFor?: string;
}

const strings = filledList(string);

const source: Decoder<MatchTerm> = mapped(
  object(
    {
      principals: optional(principalMatches),
      notPrincipals: optional(principalMatches),
      namespaces: optional(namespaceMatches),
      notNamespaces: optional(namespaceMatches),
      serviceAccounts: optional(serviceAccounts),
      notServiceAccounts: optional(serviceAccounts),
      ipBlocks: optional(cidrBlocks),
      notIpBlocks: optional(cidrBlocks),
      remoteIpBlocks: optional(cidrBlocks),
      notRemoteIpBlocks: optional(cidrBlocks),
      requestPrincipals: optional(strings),
      notRequestPrincipals: optional(strings),
    },
    'refuse',
  ),
  (wire, path, report) => {
    requireSome(wire, path, report);
    if (wire.serviceAccounts ?? wire.notServiceAccounts) {
      if (wire.principals ?? wire.notPrincipals ?? wire.namespaces ?? wire.notNamespaces) {
        report([...path, 'serviceAccounts'], 'must not stand beside principals or namespaces');
      }
    }
    const { remoteIpBlocks, notRemoteIpBlocks, requestPrincipals, notRequestPrincipals, ipBlocks, notIpBlocks, ...l4 } =
      wire;
    return {
      l4: { ...l4, sourceIps: ipBlocks, notSourceIps: notIpBlocks },
      l7: present({ remoteIpBlocks, notRemoteIpBlocks, requestPrincipals, notRequestPrincipals }),
      field: fieldOf(path),
    };
  },
);

const operation: Decoder<MatchTerm> = mapped(
  object(
    {
      ports: optional(ports),
      notPorts: optional(ports),
      hosts: optional(strings),
      notHosts: optional(strings),
      methods: optional(strings),
      notMethods: optional(strings),
      paths: optional(strings),
      notPaths: optional(strings),
    },
    'refuse',
  ),
  (wire, path, report) => {
    requireSome(wire, path, report);
    const { ports: destinationPorts, notPorts: notDestinationPorts, ...l7 } = wire;
    return { l4: { destinationPorts, notDestinationPorts }, l7: present(l7), field: fieldOf(path) };
  },
);

const L7_CONDITION =
  /^(request\.headers\[.+\]|remote\.ip|request\.auth\.(principal|audiences|presenter|claims\[.+\])|connection\.sni|experimental\.envoy\.filters\..+)$/;

/** Kinds of `when` entries an agent can check: the decoder of their values and where they belong. */
const L4_CONDITIONS: ReadonlyMap<string, (values: unknown, negated: boolean, path: Path, report: Report) => L4Match> =
  new Map([
    [
      'source.ip',
      condition(
        cidrBlocks,
        (list) => ({ sourceIps: list }),
        (list) => ({ notSourceIps: list }),
      ),
    ],
    [
      'source.namespace',
      condition(
        namespaceMatches,
        (list) => ({ namespaces: list }),
        (list) => ({ notNamespaces: list }),
      ),
    ],
    [
      'source.principal',
      condition(
        principalMatches,
        (list) => ({ principals: list }),
        (list) => ({ notPrincipals: list }),
      ),
    ],
    [
      'destination.ip',
      condition(
        cidrBlocks,
        (list) => ({ destinationIps: list }),
        (list) => ({ notDestinationIps: list }),
      ),
    ],
    [
      'destination.port',
      condition(
        ports,
        (list) => ({ destinationPorts: list }),
        (list) => ({ notDestinationPorts: list }),
      ),
    ],
  ]);

function condition<T>(values: Decoder<T[]>, positive: (list: T[]) => L4Match, negative: (list: T[]) => L4Match) {
  return (raw: unknown, negated: boolean, path: Path, report: Report): L4Match => {
    const decoded = decode(values, raw);
    if (decoded.ok) return negated ? negative(decoded.value) : positive(decoded.value);
    for (const problem of decoded.problems) report([...path, ...problem.path], problem.reason);
    return {};
  };
}

const when: Decoder<MatchTerm> = mapped(
  object({ key: string, values: optional(strings), notValues: optional(strings) }, 'refuse'),
  (wire, path, report) => {
    if (wire.values === undefined && wire.notValues === undefined) report(path, 'needs values or notValues');
    const convert = L4_CONDITIONS.get(wire.key);
    if (convert === undefined) {
      if (!L7_CONDITION.test(wire.key))
        report([...path, 'key'], `${JSON.stringify(wire.key)} is not a known attribute`);
      return { l4: {}, l7: [wire.key], field: fieldOf(path) };
    }
    const positive = wire.values === undefined ? {} : convert(wire.values, false, [...path, 'values'], report);
    const negative = wire.notValues === undefined ? {} : convert(wire.notValues, true, [...path, 'notValues'], report);
    return { l4: { ...positive, ...negative }, l7: [], field: fieldOf(path) };
  },
);

const rule: Decoder<PolicyRule> = mapped(
  object(
    {
      from: optional(filledList(object({ source }, 'refuse'))),
      to: optional(filledList(object({ operation }, 'refuse'))),
      when: optional(filledList(when)),
    },
    'refuse',
  ),
  (wire) => {
    const clauses: (readonly MatchTerm[])[] = [];
    if (wire.from !== undefined) clauses.push(wire.from.map((entry) => entry.source));
    if (wire.to !== undefined) clauses.push(wire.to.map((entry) => entry.operation));
    for (const entry of wire.when ?? []) clauses.push([entry]);
    return { clauses };
  },
);

/** What a policy can be attached to, by group and kind. */
const TARGET_KINDS: ReadonlySet<string> = new Set([
  '/Service',
  'networking.istio.io/ServiceEntry',
  'gateway.networking.k8s.io/Gateway',
  'gateway.networking.k8s.io/GatewayClass',
]);

const target: Decoder<PolicyTarget & { readonly namespace: string | undefined }> = mapped(
  object({ group: withDefault(string, ''), kind: string, name: string, namespace: optional(string) }, 'refuse'),
  ({ group, kind, name, namespace }, path, report) => {
    const coreless = group === 'core' ? '' : group;
    if (!TARGET_KINDS.has(`${coreless}/${kind}`)) {
      report([...path, 'kind'], `cannot be ${group}/${kind}: use Service, ServiceEntry, Gateway or GatewayClass`);
    }
    return { group: coreless, kind, name, namespace };
  },
);

const specification = object(
  {
    selector: optional(workloadSelector),
    targetRef: optional(target),
    targetRefs: optional(filledList(target)),
    action: withDefault(oneOf('ALLOW', 'DENY', 'AUDIT', 'CUSTOM'), 'ALLOW'),
    provider: optional(object({ name: string }, 'refuse')),
    rules: withDefault(list(rule), []),
  },
  'refuse',
);

const noSpecification = {
  selector: undefined,
  targetRef: undefined,
  targetRefs: undefined,
  action: 'ALLOW',
  provider: undefined,
  rules: [],
} as const;

export const authorizationPolicy: Decoder<AuthorizationPolicy> = mapped(
  object({ metadata: metadata('namespaced'), spec: optional(specification) }, 'ignore'),
  ({ metadata: meta, spec }, path, report) => {
    const { selector, targetRef, targetRefs, action, provider, rules } = spec ?? noSpecification;
    const targets = [...(targetRef === undefined ? [] : [targetRef]), ...(targetRefs ?? [])];
    if (targets.length > 0 && selector !== undefined) {
      report([...path, 'spec', 'selector'], 'must not stand beside targetRefs');
    }
    if (targets.some(({ namespace }) => namespace !== undefined && namespace !== meta.namespace)) {
      report([...path, 'spec', 'targetRefs'], 'must be in the namespace of the policy');
    }
    if (action === 'CUSTOM' && provider === undefined) report([...path, 'spec'], 'action CUSTOM needs a provider');
    if (action !== 'CUSTOM' && provider !== undefined) {
      report([...path, 'spec', 'provider'], 'is only allowed with action CUSTOM');
    }
    return {
      kind: 'AuthorizationPolicy',
      meta,
      action,
      selector: selector === undefined || selector.size === 0 ? undefined : selector,
      targets: targets.map(({ group, kind, name }) => ({ group, kind, name })),
      rules,
      dryRun: meta.annotations.get('istio.io/dry-run') === 'true',
    };
  },
);

/** The path below `spec`, as people write it. */
function fieldOf(path: Path): string {
  let text = '';
  for (const step of path[0] === 'spec' ? path.slice(1) : path) {
    text += typeof step === 'number' ? `[${step}]` : text === '' ? step : `.${step}`;
  }
  return text;
}

function present(fields: Readonly<Record<string, unknown>>): string[] {
  return Object.keys(fields).filter((name) => fields[name] !== undefined);
}

function requireSome(fields: Readonly<Record<string, unknown>>, path: Path, report: Report): void {
  if (present(fields).length === 0) report(path, 'must name at least one attribute');
}
