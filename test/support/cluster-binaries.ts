/**
 * Where the programs of Kubernetes that the tests run are kept: built once by `test/cluster/build-binaries` into the
 * cache of the user, shared by all checkouts.
 */
import { accessSync, constants } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

export type ClusterBinary =
  | 'kube-apiserver'
  | 'kube-controller-manager'
  | 'kube-scheduler'
  | 'kubelet'
  | 'kube-proxy'
  | 'kubectl'
  | 'helm'
  | 'coredns';

/** Folder of binaries, images and manifests (`AMBIT_CLUSTER_CACHE`). */
export const CLUSTER_CACHE =
  process.env.AMBIT_CLUSTER_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'ambit', 'cluster');

/** Path of a program, built or not. */
export function clusterBinary(name: ClusterBinary): string {
  return join(CLUSTER_CACHE, 'bin', name);
}

/** Those of the list that have not been built yet. */
export function missingBinaries(names: readonly ClusterBinary[]): ClusterBinary[] {
  return names.filter((name) => !isExecutable(clusterBinary(name)));
}

/** Path of a program of the machine, or undefined. */
export function findOnPath(program: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, program)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
