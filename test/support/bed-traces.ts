/** What a bed is on the machine: its namespaces while it runs, and whatever of it can be found afterwards. */
import { existsSync, globSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Bed } from './cluster.ts';

const NAMESPACE_KINDS = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'uts'];

/** The namespaces in which the bed's processes are and this process is not, as /proc names them (`net:[4026532001]`). */
export function namespacesOf(bed: Bed): Set<string> {
  const own = new Set(namespacesOfProcess('self'));
  const pids = readdirSync(join(bed.state, 'pids')).map((name) =>
    readFileSync(join(bed.state, 'pids', name), 'utf8').split(' '),
  );
  return new Set(pids.flatMap(([pid = '']) => namespacesOfProcess(pid)).filter((name) => !own.has(name)));
}

/** Everything that is still there of a bed: processes in its namespaces or with its paths, mounts, cgroups, its state. */
export function tracesOf(bed: Bed, namespaces: ReadonlySet<string>): string[] {
  const processes = readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && pid !== String(process.pid))
    .filter((pid) => namespacesOfProcess(pid).some((name) => namespaces.has(name)) || mentions(pid, `${bed.state}/`))
    .map((pid) => `process ${pid}`);
  const mounts = read('/proc/self/mountinfo')
    .split('\n')
    .filter((line) => line.includes(`${bed.state}/`))
    .map((line) => `mount ${line}`);
  const cgroups = globSync(`/sys/fs/cgroup/**/${bed.name}-*`).map((folder) => `cgroup ${folder}`);
  return [...processes, ...mounts, ...cgroups, ...(existsSync(bed.state) ? [bed.state] : [])];
}

function namespacesOfProcess(pid: string): string[] {
  return NAMESPACE_KINDS.flatMap((kind) => {
    try {
      return [readlinkSync(`/proc/${pid}/ns/${kind}`)];
    } catch {
      return [];
    }
  });
}

function mentions(pid: string, text: string): boolean {
  return read(`/proc/${pid}/cmdline`).includes(text);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
