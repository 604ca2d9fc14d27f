/** Applies CustomResourceDefinitions from a text, by server-side apply; for the Gateway API, which Ambit reads and does not bring. */
import { parseAllDocuments } from 'yaml';
import { isRecord } from '../../core/decoder.ts';
import { AmbitError } from '../../core/errors.ts';
import type { KubeClient } from '../../kube/client.ts';
import { RESOURCES } from '../../kube/resource.ts';

const FIELD_MANAGER = 'ambit-cli';

/** Resolves to the names of the definitions. Rejects with CONFIGURATION before anything is applied when the text has others. */
export async function applyDefinitions(client: KubeClient, text: string): Promise<string[]> {
  const definitions = parseAllDocuments(text).flatMap((document) => {
    const value: unknown = document.toJS();
    if (value === null || value === undefined) return [];
    if (!isRecord(value) || !isRecord(value.metadata) || typeof value.metadata.name !== 'string') {
      throw new AmbitError('CONFIGURATION', 'the file holds something that is no Kubernetes object');
    }
    if (value.kind !== 'CustomResourceDefinition') return [];
    return [{ name: value.metadata.name, value }];
  });
  if (definitions.length === 0) throw new AmbitError('CONFIGURATION', 'the file holds no CustomResourceDefinition');
  for (const { name, value } of definitions) {
    await client.apply(RESOURCES.CustomResourceDefinition, '', name, value, {
      fieldManager: FIELD_MANAGER,
      force: true,
    });
  }
  return definitions.map(({ name }) => name);
}
