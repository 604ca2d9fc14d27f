/**
 * The configuration of the control plane: tables of settings (`config/*-settings.ts`), each read from a flag, else from
 * the environment, else its default. Reading is pure and reports every mistake at once; the tables also yield the help
 * text, docs/CONFIGURATION.md and what the Helm chart may set.
 */

import { AmbitError } from '../core/errors.ts';
import { IDENTITY_SETTINGS } from './config/identity-settings.ts';
import { LEADER_SETTINGS } from './config/leader-settings.ts';
import { SERVING_SETTINGS } from './config/serving-settings.ts';
import type { Setting } from './config/setting.ts';
import { SOURCE_SETTINGS } from './config/source-settings.ts';

export type { Setting } from './config/setting.ts';

export const CONTROL_SETTINGS = {
  ...SOURCE_SETTINGS,
  ...SERVING_SETTINGS,
  ...IDENTITY_SETTINGS,
  ...LEADER_SETTINGS,
} as const;

type Value<S> = S extends Setting<infer T> ? T : never;
export type ControlConfig = { readonly [K in keyof typeof CONTROL_SETTINGS]: Value<(typeof CONTROL_SETTINGS)[K]> };

/**
 * Reads flags (`--flag value` or `--flag=value`) over the environment. Throws CONFIGURATION with one line per mistake.
 */
export function readControlConfig(args: readonly string[], env: NodeJS.ProcessEnv): ControlConfig {
  const mistakes: string[] = [];
  const flags = readFlags(args, mistakes);
  const result: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries<Setting<unknown>>(CONTROL_SETTINGS)) {
    const given = flags.get(setting.flag);
    const text = given ?? env[setting.env] ?? setting.default;
    const origin = given === undefined ? setting.env : `--${setting.flag}`;
    if (text === undefined) {
      mistakes.push(`--${setting.flag} (or ${setting.env}) must be given: ${setting.documentation}`);
      continue;
    }
    const parsed = setting.parse(text);
    if (parsed.ok) result[key] = parsed.value;
    else mistakes.push(`${origin} must be ${parsed.expected}, not ${JSON.stringify(text.slice(0, 100))}`);
  }
  // Every key of the table was parsed by its own row; a missing one is a mistake already.
  const config = result as ControlConfig;
  mistakes.push(...missingForSource(config));
  if (mistakes.length > 0) throw new AmbitError('CONFIGURATION', mistakes.join('\n'));
  return config;
}

/** What the chosen source needs and was not given. */
function missingForSource(config: Partial<ControlConfig>): string[] {
  if (config.source !== 'files') return [];
  const missing: string[] = [];
  for (const key of ['configDir', 'stateDir'] as const) {
    if (key in config && config[key] === undefined) {
      const { flag, env, documentation } = CONTROL_SETTINGS[key];
      missing.push(`--${flag} (or ${env}) must be given: ${documentation}`);
    }
  }
  return missing;
}

function readFlags(args: readonly string[], mistakes: string[]): Map<string, string> {
  const known = new Set(Object.values(CONTROL_SETTINGS).map((setting) => setting.flag));
  const flags = new Map<string, string>();
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? '';
    const match = /^--([a-z-]+)(?:=(.*))?$/s.exec(arg);
    const flag = match?.[1];
    if (flag === undefined || !known.has(flag)) {
      mistakes.push(`${JSON.stringify(arg.slice(0, 100))} is not an option`);
      continue;
    }
    const value = match?.[2] ?? args[++index];
    if (value === undefined) mistakes.push(`--${flag} needs a value`);
    else flags.set(flag, value);
  }
  return flags;
}

/** One line per option. */
export function controlHelp(): string {
  const lines = Object.values(CONTROL_SETTINGS).map((setting) => {
    const fallback = setting.default === undefined ? 'required' : `default ${setting.default || '(none)'}`;
    return `  --${setting.flag} (${setting.env}; ${fallback})\n      ${setting.documentation}`;
  });
  return `Ambit control plane: discovery, policy and CA from a cluster or from a folder of YAML.\n\nOptions:\n${lines.join('\n')}\n\nSignals:\n  SIGTERM, SIGINT  stop in order\n  SIGUSR2          begin a rotation of the root of the CA\n`;
}
