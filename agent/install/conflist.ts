/**
 * Network configuration lists with our plugin at their end. Pure. The list of another network is never changed: ours is a
 * copy of it that sorts before it, so that a node that reboots finds the chain with us in it from the first pod on.
 */
import { PLUGIN_TYPE } from '../../core/enrolment/plugin-entry.ts';
import { AmbitError } from '../../core/errors.ts';

export type ConfigObject = Readonly<Record<string, unknown>>;

export interface Conflist extends ConfigObject {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly ConfigObject[];
}

/** Version of a list that is made from a single configuration without one. */
const FALLBACK_VERSION = '0.3.1';

/** Reads a `.conflist`, or a `.conf` as a list of one. Undefined when it is neither: runtimes skip such files, so do we. */
export function findConflist(text: string): Conflist | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || typeof value.name !== 'string') return undefined;
  const cniVersion = typeof value.cniVersion === 'string' ? value.cniVersion : FALLBACK_VERSION;
  if (typeof value.type === 'string') return { name: value.name, cniVersion, plugins: [value] };
  const plugins: unknown = value.plugins;
  if (!Array.isArray(plugins) || plugins.length === 0) return undefined;
  const typed = plugins.filter((plugin): plugin is ConfigObject => isObject(plugin) && typeof plugin.type === 'string');
  return typed.length === plugins.length ? { ...value, name: value.name, cniVersion, plugins: typed } : undefined;
}

/** The primary network's list with our entry last; an older entry of ours is replaced. Everything else stays as it is. */
export function withPlugin(primary: Conflist, entry: ConfigObject): Conflist {
  const others = primary.plugins.filter(({ type }) => type !== PLUGIN_TYPE);
  if (others.length === 0) throw new AmbitError('CONFIGURATION', `network ${primary.name} has no plugin besides ours`);
  return { ...primary, plugins: [...others, { ...entry, type: PLUGIN_TYPE }] };
}

function isObject(value: unknown): value is ConfigObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
