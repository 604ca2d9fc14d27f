/**
 * The local configuration: one YAML document with `workloads`, `services` and `policies` in the format ztunnel reads
 * from LOCAL_XDS_PATH, turned into the very resources a control plane would send. Everything after this point is the
 * same for both. All mistakes are reported at once, with their path; a file with a mistake yields nothing.
 *
 * Where a field is absent, the defaults of xDS hold (trust domain `cluster.local`, service account `default`).
 */
import { readFile } from 'node:fs/promises';
import { parseDocument } from 'yaml';
import { AmbitError } from '../../core/errors.ts';
import { localPolicy } from './local-policy.ts';
import { localService } from './local-service.ts';
import { localWorkload } from './local-workload.ts';
import { MeshState } from './mesh-state.ts';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, type EncodedResource, type ResourceUpdate } from './resource.ts';
import { YamlNode } from './yaml-reader.ts';

/** The largest file that is read, bytes. */
export const MAX_LOCAL_CONFIG_BYTES = 64 * 1024 * 1024;

/** Reads the file. @throws AmbitError `CONFIGURATION` listing every mistake, one per line */
export async function readLocalConfig(path: string): Promise<ResourceUpdate[]> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (thrown) {
    throw new AmbitError('CONFIGURATION', `cannot read the local configuration ${path}`, { cause: thrown });
  }
  return parseLocalConfig(text, path);
}

/** @param source named in errors @throws AmbitError `CONFIGURATION` listing every mistake, one per line */
export function parseLocalConfig(text: string, source = 'local configuration'): ResourceUpdate[] {
  if (text.length > MAX_LOCAL_CONFIG_BYTES) throw new AmbitError('CONFIGURATION', `${source}: the file is too large`);
  const document = parseDocument(text, { prettyErrors: true, uniqueKeys: true });
  if (document.errors.length > 0)
    throw failure(
      source,
      document.errors.map(({ message }) => message),
    );
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (thrown) {
    throw failure(source, [thrown instanceof Error ? thrown.message : 'the document cannot be resolved']);
  }
  const problems: string[] = [];
  const updates = value === null ? [] : toUpdates(new YamlNode(value, '', problems));
  if (problems.length === 0) problems.push(...findRefusals(updates));
  if (problems.length > 0) throw failure(source, problems);
  return updates;
}

function toUpdates(root: YamlNode): ResourceUpdate[] {
  const field = root.fields(['workloads', 'services', 'policies']);
  const addresses = [...field('services').list().map(localService), ...field('workloads').list().map(localWorkload)];
  return [
    { typeUrl: ADDRESS_TYPE, updated: unique(addresses, root), removed: [] },
    { typeUrl: AUTHORIZATION_TYPE, updated: unique(field('policies').list().map(localPolicy), root), removed: [] },
  ];
}

/** A second resource of a name would replace the first. */
function unique(resources: EncodedResource[], root: YamlNode): EncodedResource[] {
  const names = new Set<string>();
  for (const { name } of resources) {
    if (names.has(name)) root.problems.push(`${name}: there are two of this name`);
    names.add(name);
  }
  return resources;
}

/** What the decoders of xDS resources would refuse. */
function findRefusals(updates: readonly ResourceUpdate[]): string[] {
  const trial = new MeshState();
  return updates.flatMap((update) => trial.apply(update).errors.map(({ name, reason }) => `${name}: ${reason}`));
}

function failure(source: string, problems: readonly string[]): AmbitError {
  return new AmbitError('CONFIGURATION', problems.map((problem) => `${source}: ${problem}`).join('\n'));
}
