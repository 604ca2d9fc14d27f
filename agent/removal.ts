/**
 * Taking the mesh off a node: the plugin first, so that new pods no longer wait for anybody, then every pod, then the rules
 * of the node and the files; at the end everything is looked for once more.
 *
 * Pods go on in plain text. Their new connections are plain from the first moment, connections that stand may end in their
 * own time for as long as the agent is given.
 */
import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { toAmbitError } from '../core/errors.ts';
import { logger } from '../core/log.ts';
import type { Enrolment } from './enrol/enrolment.ts';
import { findHostRules, removeHostRules } from './enrol/host-probes.ts';
import { keyOf } from './enrol/pod-entry.ts';
import type { Installation } from './install/installation.ts';
import { visiblePath } from './install/node-path.ts';

const log = logger('removal');

/** What the agent keeps in its run directory. Folders of others are left alone. */
const OWN_ENTRIES = ['pods', 'sandboxes', 'pluginevent.sock', 'handover.sock'];

export interface RemovalOptions {
  readonly installation: Installation | undefined;
  readonly enrolment: Enrolment;
  readonly runDirectory: string;
  /** Where the node's file system is visible to this process. */
  readonly hostRoot: string;
  /** The node's network namespace; undefined where the agent has no rules of the node. */
  readonly hostNetns: string | undefined;
  /** Lets the connections of pods end; resolves to how many had to be cut. */
  readonly drain: () => Promise<number>;
}

export interface RemovalReport {
  readonly pods: number;
  /** Connections that did not end in time. */
  readonly cut: number;
  /** What is left, in words; empty when the node is as before. */
  readonly left: readonly string[];
}

/** Never rejects: every step is tried, and what failed is in the report. */
export async function removeFromNode(options: RemovalOptions): Promise<RemovalReport> {
  const { enrolment, installation, hostNetns, hostRoot, runDirectory } = options;
  const left: string[] = [];
  const attempt = async (what: string, step: () => Promise<void>): Promise<void> => {
    try {
      await step();
    } catch (thrown) {
      left.push(`${what}: ${toAmbitError(thrown, 'RULES').message}`);
    }
  };
  await installation?.remove();
  const pods = enrolment.list().map(({ pod }) => pod);
  for (const pod of pods) {
    await attempt(`pod ${keyOf(pod)}`, () => enrolment.leave(keyOf(pod), 'the mesh is taken off the node'));
  }
  const cut = await options.drain();
  for (const pod of pods) await attempt(`pod ${keyOf(pod)}`, () => enrolment.release(keyOf(pod)));
  for (const { pod } of enrolment.list()) left.push(`pod ${keyOf(pod)} is still held`);
  if (hostNetns !== undefined) {
    await attempt('rules of the node', () => removeHostRules(hostNetns));
    await attempt('rules of the node', async () => {
      if (await findHostRules(hostNetns)) left.push('the rules of the node stand');
    });
  }
  for (const entry of OWN_ENTRIES) {
    await attempt(join(runDirectory, entry), () => rm(join(runDirectory, entry), { recursive: true, force: true }));
  }
  const remaining = await readdir(runDirectory).catch(() => []);
  for (const entry of remaining) if (OWN_ENTRIES.includes(entry)) left.push(join(runDirectory, entry));
  // It is mounted into this container under its name; what others keep in it, or a node that is not visible, leaves it there.
  await rmdir(await visiblePath(hostRoot, runDirectory)).catch(() => undefined);
  left.push(...((await installation?.leftovers()) ?? []));
  const report = { pods: pods.length, cut, left };
  log[left.length === 0 ? 'info' : 'error'](report, 'the mesh was taken off the node');
  return report;
}
