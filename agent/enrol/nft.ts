/**
 * Runs the `nft` program inside a pod's network namespace and applies, reads or removes our table there.
 *
 * The child is forked while this thread is inside the namespace and inherits it; nothing of the pod's file system is
 * used. Output and run time are bounded. Every failure is `RULES` with what nft said, or `MISSING_TOOL`.
 */
import { spawn } from 'node:child_process';
import { AmbitError, toAmbitError } from '../../core/errors.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { fieldOf, listOf } from './object-fields.ts';
import { REMOVE_RULES_TEXT, RULES_TABLE, type Ruleset } from './rules.ts';
import { compareListing, fingerprint, type RulesFingerprint, readListing } from './rules-listing.ts';

const RUN_TIMEOUT_MS = 5_000;
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
const MAX_QUOTED_ERROR = 400;
const MAX_QUOTED_COMMAND = 40;

type Listing = ReturnType<typeof readListing>;

/**
 * Replaces the table by the ruleset in one transaction and compares what the kernel says it has put in place (its
 * notifications, which the same nft prints; another listing where they do not tell). The result recognises these rules
 * later. Throws `RULES`; when the transaction itself failed nothing was changed.
 */
export async function applyRules(netns: NetworkNamespace, ruleset: Ruleset): Promise<RulesFingerprint> {
  // As an argument: with JSON output nft cannot read what Node gives as standard input.
  const echo = await runNft(netns, ['-j', '-e', ruleset.text]);
  const listing = readEcho(ruleset, echo) ?? (await findListing(netns));
  const differences = compareListing(ruleset, listing);
  if (listing === undefined || differences.length > 0) {
    throw new AmbitError('RULES', `the rules do not stand as written: ${differences.join('; ')}`);
  }
  return fingerprint(ruleset, listing);
}

/** Differences between what stands and what was recorded, in words; empty when the rules are in force. */
export async function checkRules(
  netns: NetworkNamespace,
  ruleset: Ruleset,
  recorded: RulesFingerprint,
): Promise<string[]> {
  return compareListing(ruleset, await findListing(netns), recorded);
}

/** Removes the table and everything in it; does nothing when it does not exist. */
export async function removeRules(netns: NetworkNamespace): Promise<void> {
  await runNft(netns, ['-f', '-'], REMOVE_RULES_TEXT);
}

/** Throws `MISSING_TOOL` when nft is absent or cannot print JSON. Reads the agent's own namespace, changes nothing. */
export async function probeNft(): Promise<void> {
  const netns = NetworkNamespace.current();
  try {
    parseListing(await runNft(netns, ['-j', 'list', 'tables', 'inet']));
  } catch (thrown) {
    const { message } = toAmbitError(thrown, 'RULES');
    throw new AmbitError('MISSING_TOOL', `nft (package nftables, with JSON support): ${message}`, { cause: thrown });
  } finally {
    netns.close();
  }
}

/**
 * The listing as the echo of a transaction tells it: objects wrapped in `add`. Undefined when it does not tell everything,
 * as with versions of nft that print less.
 */
function readEcho(ruleset: Ruleset, echo: string): Listing | undefined {
  try {
    const objects: unknown = JSON.parse(echo);
    const nftables = fieldOf(objects, 'nftables');
    const added = listOf({ nftables }, 'nftables').flatMap((object) => fieldOf(object, 'add') ?? []);
    const listing = readListing({ nftables: added });
    return compareListing(ruleset, listing).length === 0 ? listing : undefined;
  } catch {
    return undefined;
  }
}

/** Undefined when the table does not exist: nft only fails then, so another listing tells that from other failures. */
async function findListing(netns: NetworkNamespace): Promise<Listing | undefined> {
  try {
    return readListing(parseListing(await runNft(netns, ['-j', 'list', 'table', 'inet', RULES_TABLE])));
  } catch (thrown) {
    const tables = parseListing(await runNft(netns, ['-j', 'list', 'tables', 'inet']));
    if (hasTable(tables)) throw thrown;
    return undefined;
  }
}

function parseListing(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AmbitError('RULES', 'nft was asked for JSON and printed something else', { cause });
  }
}

function hasTable(listing: unknown): boolean {
  if (typeof listing !== 'object' || listing === null || !('nftables' in listing)) return false;
  if (!Array.isArray(listing.nftables)) return false;
  return listing.nftables.some((object: { table?: { name?: unknown } } | null) => object?.table?.name === RULES_TABLE);
}

/** Runs nft in the namespace; the text it printed. Throws `RULES` with what it said, or `MISSING_TOOL`. */
export function runNft(netns: NetworkNamespace, args: readonly string[], input = ''): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const child = netns.run(() => spawn('nft', args, { stdio: 'pipe', timeout: RUN_TIMEOUT_MS, killSignal: 'SIGKILL' }));
  const output: string[] = [];
  const complaint: string[] = [];
  let bytes = 0;
  const collect = (into: string[]) => (chunk: string) => {
    bytes += chunk.length;
    if (bytes > MAX_OUTPUT_BYTES) child.kill('SIGKILL');
    else into.push(chunk);
  };
  child.stdout.setEncoding('utf8').on('data', collect(output));
  child.stderr.setEncoding('utf8').on('data', collect(complaint));
  child.once('error', (cause) => {
    const missing = 'code' in cause && cause.code === 'ENOENT';
    reject(
      new AmbitError(missing ? 'MISSING_TOOL' : 'RULES', missing ? 'nft (package nftables)' : cause.message, { cause }),
    );
  });
  child.once('close', (code, signal) => {
    if (code === 0) resolve(output.join(''));
    else
      reject(
        new AmbitError(
          'RULES',
          `nft ${quote(args.join(' ')).slice(0, MAX_QUOTED_COMMAND)} ended with ${signal ?? code}: ${quote(complaint.join(''))}`,
        ),
      );
  });
  // A child that ends before it has read everything is reported by its exit status.
  child.stdin.on('error', () => undefined).end(input);
  return promise;
}

function quote(text: string): string {
  return text.trim().replaceAll(/\s+/g, ' ').slice(0, MAX_QUOTED_ERROR);
}
