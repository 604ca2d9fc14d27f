/**
 * Reads what `nft -j list table inet ambit` says and compares it with what should stand there. Pure.
 *
 * nft prints rules in its own canonical form, which differs between its versions, so the text we wrote is not compared
 * with the text it prints. Instead the listing right after a successful apply is reduced to a fingerprint (chains with
 * hooks, rules in order by id, a digest of each rule's expressions without counters and handles); every later listing
 * must reduce to the same. Structure is also compared with the ruleset itself, so a wrong first listing is noticed.
 */
import { createHash } from 'node:crypto';
import { AmbitError } from '../../core/errors.ts';
import { RULES_TABLE, type Ruleset } from './rules.ts';

export interface RulesFingerprint {
  /** SHA-256 of the transaction text: tells a newer agent that the rules are those of an older one. */
  readonly text: string;
  /** `name type hook priority policy`, sorted. */
  readonly chains: readonly string[];
  /** `chain id digest`, in the kernel's order. */
  readonly rules: readonly string[];
}

const UNNAMED = '(unnamed)';

/** Reduces the parsed JSON of a listing; throws `DECODE` when it is not one. Objects of other tables are left out. */
export function readListing(listing: unknown): Omit<RulesFingerprint, 'text'> {
  const objects = field(listing, 'nftables');
  if (!Array.isArray(objects)) throw new AmbitError('DECODE', 'the listing has no list named nftables');
  const chains: string[] = [];
  const rules: string[] = [];
  for (const object of objects) {
    const chain = field(object, 'chain');
    if (chain !== undefined && isOurs(chain, 'table')) {
      chains.push(['name', 'type', 'hook', 'prio', 'policy'].map((key) => plain(field(chain, key))).join(' '));
    }
    const rule = field(object, 'rule');
    if (rule !== undefined && isOurs(rule, 'table')) {
      const id = field(rule, 'comment');
      const digest = sha256(JSON.stringify(withoutCounters(field(rule, 'expr')))).slice(0, 16);
      rules.push(`${plain(field(rule, 'chain'))} ${typeof id === 'string' ? id : UNNAMED} ${digest}`);
    }
    for (const kind of ['set', 'map', 'flowtable', 'ct helper']) {
      const other = field(object, kind);
      if (other !== undefined && isOurs(other, 'table')) chains.push(`${kind} ${plain(field(other, 'name'))}`);
    }
  }
  return { chains: chains.sort(), rules };
}

export function fingerprint(ruleset: Ruleset, listing: Omit<RulesFingerprint, 'text'>): RulesFingerprint {
  return { text: sha256(ruleset.text), ...listing };
}

/**
 * Every difference in words; an empty list means that the rules are in force. Without a `recorded` fingerprint only the
 * structure is compared (chains, hooks, rule ids in order), which is what is known right after the first apply.
 */
export function compareListing(
  ruleset: Ruleset,
  actual: Omit<RulesFingerprint, 'text'> | undefined,
  recorded?: RulesFingerprint,
): string[] {
  if (actual === undefined) return [`the table inet ${RULES_TABLE} is missing`];
  const wantedChains = ruleset.chains.map(
    ({ name, type, hook, priority }) => `${name} ${type} ${hook} ${priority} accept`,
  );
  const differences = [
    ...missing(wantedChains, actual.chains).map((chain) => `chain ${chain} is missing or altered`),
    ...missing(actual.chains, wantedChains).map((chain) => `${chain} does not belong there`),
  ];
  const wantedRules = ruleset.rules.map((rule) => `${rule.chain} ${rule.id}`);
  const actualRules = actual.rules.map((rule) => rule.slice(0, rule.lastIndexOf(' ')));
  const lost = missing(wantedRules, actualRules);
  const added = missing(actualRules, wantedRules);
  differences.push(...lost.map((rule) => `rule ${rule} is missing`), ...added.map((rule) => `rule ${rule} was added`));
  if (lost.length === 0 && added.length === 0 && !sameOrderPerChain(wantedRules, actualRules)) {
    differences.push('the rules stand in another order');
  }
  if (recorded === undefined || differences.length > 0) return differences;
  if (recorded.text !== sha256(ruleset.text)) return ['the rules are those of another version of the agent'];
  return missing(recorded.rules, actual.rules).map(
    (rule) => `rule ${rule.slice(0, rule.lastIndexOf(' '))} was altered`,
  );
}

/** Elements of `wanted` that `present` lacks, counting repetitions. */
function missing(wanted: readonly string[], present: readonly string[]): string[] {
  const left = [...present];
  return wanted.filter((item) => {
    const index = left.indexOf(item);
    if (index >= 0) left.splice(index, 1);
    return index < 0;
  });
}

function sameOrderPerChain(wanted: readonly string[], actual: readonly string[]): boolean {
  const byChain = (rules: readonly string[]) =>
    JSON.stringify(Object.entries(Object.groupBy(rules, (rule) => rule.slice(0, rule.indexOf(' ')))).sort());
  return byChain(wanted) === byChain(actual);
}

function withoutCounters(expressions: unknown): unknown {
  if (!Array.isArray(expressions)) return expressions;
  return expressions.filter((expression) => field(expression, 'counter') === undefined);
}

function isOurs(object: unknown, key: string): boolean {
  return field(object, 'family') === 'inet' && field(object, key) === RULES_TABLE;
}

function field(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return Reflect.get(value, key);
}

function plain(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '?';
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
