/**
 * Paths of the node as this process reaches them below `hostRoot`. An absolute symbolic link on the node (`/var/run` is
 * one on most distributions) means the node's root, but the kernel would follow it from this process's own: such links
 * are replaced by what they lead to. Relative ones stay, so that what moves later (`/var/snap/microk8s/current`) is followed.
 */
import { readlink } from 'node:fs/promises';
import { join } from 'node:path';

/** As the kernel's own bound. */
const MAX_LINKS = 40;

/** Never rejects: what does not exist is left as it is named. `path` is absolute, as the node names it. */
export async function visiblePath(hostRoot: string, path: string): Promise<string> {
  if (hostRoot === '/') return path;
  let done = '/';
  let rest = partsOf(path);
  for (let links = 0; rest.length > 0; ) {
    const [part = '', ...others] = rest;
    const target = await readlink(join(hostRoot, done, part)).catch(() => undefined);
    if (target?.startsWith('/') && links < MAX_LINKS) {
      links += 1;
      rest = [...partsOf(target), ...others];
      done = '/';
    } else {
      done = join(done, part);
      rest = others;
    }
  }
  return join(hostRoot, done);
}

function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}
