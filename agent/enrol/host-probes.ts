/**
 * Keeps the rules of the node (host-rules.ts) equal to the enrolled pods: applied as a whole in one transaction, so they stand exactly
 * once whatever a former agent left, and put back when somebody removes them. They stay when the agent stops, as pods
 * stay captured; `removeHostRules` is for the uninstall.
 *
 * A node whose rules cannot be written is no reason to hold pods back: probes then go through the mesh like all traffic.
 */
import { createHash } from 'node:crypto';
import { toAmbitError } from '../../core/errors.ts';
import type { IpAddress } from '../../core/ip.ts';
import { logger } from '../../core/log.ts';
import { NetworkNamespace } from '../../reactor/netns.ts';
import { buildBridgeRules, buildHostRules, HOST_TABLE, type ProbeTarget, removeHostRulesText } from './host-rules.ts';
import { KubeletFinder } from './kubelet.ts';
import { runNft } from './nft.ts';
import type { NodeView } from './pod-netns.ts';
import type { ProbeExemptions } from './pod-steps.ts';

const log = logger('enrol');

export class HostProbes implements ProbeExemptions {
  readonly #netns: NetworkNamespace;
  readonly #kubelet: KubeletFinder;
  readonly #targets = new Map<string, readonly ProbeTarget[]>();
  #started = false;
  /** Moves with every change; what is applied last. */
  #wanted = 0;
  #applied = -1;
  #tail: Promise<void> = Promise.resolve();
  #fingerprint: string | undefined;
  #kubeletUid = -1;
  #problem: string | undefined;

  private constructor(netns: NetworkNamespace, hostProc: string | undefined) {
    this.#netns = netns;
    this.#kubelet = new KubeletFinder(hostProc);
  }

  /** Throws `NETNS` when the node's namespace cannot be opened. Nothing is written before `start`. */
  static open({ hostNetns, hostProc }: NodeView & { readonly hostNetns: string }): HostProbes {
    return new HostProbes(NetworkNamespace.openPath(hostNetns), hostProc);
  }

  /** Why the rules do not stand as they should; undefined when they do. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** From now on rules follow the pods; those of a former agent are replaced. Call it when its pods were taken up. */
  async start(): Promise<void> {
    this.#started = true;
    await this.#sync();
    await this.#guardBridges();
  }

  async exempt(uid: string, ips: readonly IpAddress[], ports: readonly number[] = []): Promise<void> {
    const targets = ips.flatMap((ip) => ports.map((port) => ({ ip, port, podUid: uid })));
    const known = this.#targets.get(uid);
    if (JSON.stringify(known ?? []) === JSON.stringify(targets)) return;
    if (targets.length === 0) this.#targets.delete(uid);
    else this.#targets.set(uid, targets);
    this.#wanted++;
    await this.#sync();
  }

  async end(uid: string): Promise<void> {
    await this.exempt(uid, [], []);
  }

  /** Puts back what was changed, and notices another kubelet. Call it now and then. */
  async check(): Promise<void> {
    if (!this.#started) return;
    const moved = this.#kubelet.find().uid !== this.#kubeletUid;
    const seen = await this.#readFingerprint();
    this.#fingerprint ??= seen;
    if (!moved && this.#problem === undefined && seen !== undefined && seen === this.#fingerprint) return;
    if (!moved && this.#problem === undefined) log.warn('the rules of the node had changed and are put back');
    this.#wanted++;
    await this.#sync();
    this.#fingerprint = await this.#readFingerprint();
    await this.#guardBridges();
  }

  /** From now on rules stay as they are, whatever happens to pods. */
  async stop(): Promise<void> {
    this.#started = false;
    await this.#tail;
  }

  /** As `stop`, for good. */
  async close(): Promise<void> {
    await this.stop();
    this.#netns.close();
  }

  /** Changes that come together are applied together. */
  #sync(): Promise<void> {
    if (!this.#started) return Promise.resolve();
    this.#tail = this.#tail.then(() => this.#apply());
    return this.#tail;
  }

  async #apply(): Promise<void> {
    if (this.#applied === this.#wanted) return;
    const version = this.#wanted;
    try {
      const { uid, source } = this.#kubelet.find();
      if (uid !== this.#kubeletUid) log.info({ uid, source }, 'probes are recognised by the user of kubelet');
      await runNft(this.#netns, ['-f', '-'], buildHostRules([...this.#targets.values()].flat(), uid));
      this.#kubeletUid = uid;
      // Read by the next check: not while a pod waits.
      this.#fingerprint = undefined;
      this.#applied = version;
      this.#problem = undefined;
    } catch (thrown) {
      const { message } = toAmbitError(thrown, 'RULES');
      if (this.#problem !== message) log.error({ reason: message }, 'the rules of the node could not be written');
      this.#problem = message;
    }
  }

  async #guardBridges(): Promise<void> {
    try {
      await runNft(this.#netns, ['-f', '-'], buildBridgeRules());
    } catch (thrown) {
      const { message } = toAmbitError(thrown, 'RULES');
      log.warn(
        { reason: message },
        'pods behind one bridge could forge the source of probes: no rules for bridges here',
      );
    }
  }

  /** Undefined when the table cannot be read. */
  async #readFingerprint(): Promise<string | undefined> {
    try {
      const listing = await runNft(this.#netns, ['-s', '-j', 'list', 'table', 'inet', HOST_TABLE]);
      return createHash('sha256')
        .update(listing.replaceAll(/"handle": ?[0-9]+/g, ''))
        .digest('hex');
    } catch {
      return undefined;
    }
  }
}

/** Removes everything of ours from the node's rules; repeating it is fine. Throws `RULES`. For the uninstall. */
export async function removeHostRules(hostNetns: string): Promise<void> {
  const netns = NetworkNamespace.openPath(hostNetns);
  try {
    await runNft(netns, ['-f', '-'], removeHostRulesText('inet'));
    // A kernel without rules for bridges has none to remove.
    await runNft(netns, ['-f', '-'], removeHostRulesText('bridge')).catch(() => '');
  } finally {
    netns.close();
  }
}

/** Whether anything of ours stands in the node's rules. Throws `RULES`. */
export async function findHostRules(hostNetns: string): Promise<boolean> {
  const netns = NetworkNamespace.openPath(hostNetns);
  try {
    const tables = await runNft(netns, ['list', 'tables']);
    return tables.split('\n').some((line) => line.trimEnd().endsWith(` ${HOST_TABLE}`));
  } finally {
    netns.close();
  }
}
