/**
 * The files of a run. /run becomes an empty tmpfs, seen only inside the run's mount namespace; below it the mesh folder
 * is mounted where the control plane looks for it. Nothing is written outside this tmpfs.
 */
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { openClusterFiles } from './cluster-files.ts';
import { requireCommand } from './command.ts';
import {
  CNI_STATE_DIRECTORY,
  CONFIG_MESH_DIRECTORY,
  CONTROL_STATE_DIRECTORY,
  HOSTS_DIRECTORY,
  MESH_COPY_DIRECTORY,
  MESH_DIRECTORY,
  MESH_PODS,
  NODE_NAMES,
  NODES,
} from './layout.ts';
import { RESOLVER_FILE } from './pod-command.ts';

/** Makes the folders and returns the mesh folder to work with: the repository's, or a copy the run may edit. */
export async function makeWorldFolders(options: { readonly copyMesh: boolean }): Promise<string> {
  // -n: without it mount(8) would keep a table of its own in /run, before /run is ours.
  await requireCommand(['mount', '-n', '-t', 'tmpfs', '-o', 'mode=755,size=256m', 'ambit-sandbox', '/run']);
  const secretFolders = [
    CONTROL_STATE_DIRECTORY,
    CNI_STATE_DIRECTORY,
    ...NODE_NAMES.map((name) => NODES[name].runDirectory),
  ];
  for (const folder of secretFolders) await mkdir(folder, { recursive: true, mode: 0o700 });
  for (const folder of [HOSTS_DIRECTORY, CONFIG_MESH_DIRECTORY]) await mkdir(folder, { recursive: true });
  await openClusterFiles();
  await writeFile(RESOLVER_FILE, 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n');
  const mesh = options.copyMesh ? MESH_COPY_DIRECTORY : MESH_DIRECTORY;
  if (options.copyMesh) await cp(MESH_DIRECTORY, MESH_COPY_DIRECTORY, { recursive: true });
  await requireCommand(['mount', '-n', '--bind', mesh, CONFIG_MESH_DIRECTORY]);
  const pods = `${CONFIG_MESH_DIRECTORY}/${MESH_PODS}`;
  await requireCommand(['mount', '-n', '-t', 'tmpfs', '-o', 'ro,size=4k', 'ambit-sandbox', pods]);
  return mesh;
}
