/** The part of a pod's container that the sandbox executes: command, arguments, environment. The image is not used. */
import { isRecord } from '../core/decoder.ts';

export interface ContainerSpec {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Undefined when there is no command to run. */
export function decodeContainer(value: unknown): ContainerSpec | undefined {
  if (!isRecord(value)) return undefined;
  const argv = [...array(value.command), ...array(value.args)].map(String);
  if (argv.length === 0) return undefined;
  const env: Record<string, string> = {};
  for (const entry of array(value.env)) {
    if (isRecord(entry) && typeof entry.name === 'string') env[entry.name] = String(entry.value ?? '');
  }
  return { argv, env };
}

/** The value when it is a list, else an empty one. */
export function array(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
