/**
 * The pods that the agent of this node holds, read beside it: nothing is changed, so that an agent that prepares to follow
 * another one does not disturb it. What cannot be read is left out.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { EnrolledPod } from '../dataplane/pod-capture.ts';
import { decodeStoredPod } from './stored-pod.ts';

export async function readHeldPods(runDirectory: string): Promise<EnrolledPod[]> {
  const folder = join(runDirectory, 'pods');
  const names = await readdir(folder).catch(() => []);
  const pods: EnrolledPod[] = [];
  for (const name of names) {
    if (!name.endsWith('.json')) continue;
    try {
      pods.push(decodeStoredPod(JSON.parse(await readFile(join(folder, name), 'utf8'))).pod);
    } catch {
      // The agent that owns the file will say what is wrong with it.
    }
  }
  return pods;
}
