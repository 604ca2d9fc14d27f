/** Finds where a policy of the sandbox is written, so that a verdict can point to the line to edit. */
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { LineCounter, parseAllDocuments } from 'yaml';
import { isRecord } from '../core/decoder.ts';
import { MESH_DIRECTORY, REPOSITORY_DIRECTORY } from './layout.ts';

/** `sandbox/mesh/policies/deny-legacy.yaml:4` for `shop/deny-legacy`; undefined when no file of the folder has it. */
export async function findPolicyFile(policy: string, folder: string = MESH_DIRECTORY): Promise<string | undefined> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile() || !/\.ya?ml$/.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    const line = findInText(await readFile(path, 'utf8').catch(() => ''), policy);
    if (line !== undefined) return `${relative(REPOSITORY_DIRECTORY, path)}:${line}`;
  }
  return undefined;
}

function findInText(text: string, policy: string): number | undefined {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines });
  if (!Array.isArray(documents)) return undefined;
  for (const document of documents) {
    const value: unknown = document.errors.length > 0 ? undefined : document.toJS({ maxAliasCount: 100 });
    if (!isRecord(value) || !isRecord(value.metadata)) continue;
    const { name, namespace = 'default' } = value.metadata;
    if (value.kind === 'AuthorizationPolicy' && `${String(namespace)}/${String(name)}` === policy) {
      return lines.linePos(document.contents?.range?.[0] ?? 0).line;
    }
  }
  return undefined;
}
