/**
 * The container runtime's side of CNI (specification 1.0, section 2 and 3): executes a chain of plugins for one
 * container, each with the result of the one before, undoes the chain in reverse, and raises a plugin's error.
 */
import { access, constants } from 'node:fs/promises';
import { AmbitError } from '../core/errors.ts';
import { parseIp } from '../core/ip.ts';
import { type CommandResult, runCommand } from './command.ts';

export type CniCommand = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC' | 'VERSION';

export interface CniChain {
  readonly cniVersion: string;
  readonly name: string;
  readonly plugins: readonly Readonly<Record<string, unknown>>[];
}

export interface CniContainer {
  readonly id: string;
  /** Path of the container's network namespace. */
  readonly netnsPath: string;
  readonly interfaceName: string;
  /** `K8S_POD_NAME` and so on. */
  readonly args: Readonly<Record<string, string>>;
}

/** What ADD yields: the last plugin's result as it was printed, and the container's addresses in it. */
export interface CniResult {
  readonly result: Readonly<Record<string, unknown>>;
  readonly ips: readonly string[];
}

export interface CniRuntimeOptions {
  /** Folders searched for plugins, in order. */
  readonly pluginDirectories: readonly string[];
  /** Name of the node's network namespace, in which plugins run. */
  readonly netns: string;
}

export class CniRuntime {
  readonly #options: CniRuntimeOptions;
  readonly chain: CniChain;

  constructor(chain: CniChain, options: CniRuntimeOptions) {
    this.chain = chain;
    this.#options = options;
  }

  /** Runs every plugin. Throws `CNI` with the plugin's own code, message and details; the caller then calls `remove`. */
  async add(container: CniContainer): Promise<CniResult> {
    let result: Readonly<Record<string, unknown>> | undefined;
    for (const plugin of this.chain.plugins) {
      result = parseObject(await this.#run('ADD', plugin, container, result), 'result of ADD');
    }
    if (result === undefined) throw new AmbitError('CNI', `chain ${this.chain.name} has no plugin`);
    return { result, ips: readIps(result) };
  }

  /** Reverse order. Every plugin is asked, also when an earlier one fails; the first failure is thrown at the end. */
  async remove(container: CniContainer, previous: CniResult | undefined): Promise<void> {
    let failure: unknown;
    for (const plugin of this.chain.plugins.toReversed()) {
      try {
        await this.#run('DEL', plugin, container, previous?.result);
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  async check(container: CniContainer, previous: CniResult): Promise<void> {
    for (const plugin of this.chain.plugins) await this.#run('CHECK', plugin, container, previous.result);
  }

  async #run(
    command: CniCommand,
    plugin: Readonly<Record<string, unknown>>,
    container: CniContainer,
    previous: Readonly<Record<string, unknown>> | undefined,
  ): Promise<string> {
    const type = String(plugin.type);
    const { cniVersion, name } = this.chain;
    const input = { cniVersion, name, ...plugin, ...(previous === undefined ? {} : { prevResult: previous }) };
    const answer = await runCommand([await this.#findPlugin(type)], {
      netns: this.#options.netns,
      input: JSON.stringify(input),
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: container.id,
        CNI_NETNS: container.netnsPath,
        CNI_IFNAME: container.interfaceName,
        CNI_ARGS: Object.entries({ IgnoreUnknown: '1', ...container.args })
          .map(([key, value]) => `${key}=${value}`)
          .join(';'),
        CNI_PATH: this.#options.pluginDirectories.join(':'),
      },
    });
    if (answer.status !== 0) throw new AmbitError('CNI', `${type} ${command}: ${describeFailure(answer)}`);
    return answer.stdout;
  }

  async #findPlugin(type: string): Promise<string> {
    if (!/^[A-Za-z0-9._-]+$/.test(type)) throw new AmbitError('CNI', `not a plugin name: ${JSON.stringify(type)}`);
    for (const directory of this.#options.pluginDirectories) {
      const path = `${directory}/${type}`;
      const executable = await access(path, constants.X_OK).then(
        () => true,
        () => false,
      );
      if (executable) return path;
    }
    throw new AmbitError('CNI', `plugin ${type} is not in ${this.#options.pluginDirectories.join(', ')}`);
  }
}

/** A plugin prints its error as JSON on standard output (CNI specification, section 5 "Error"). */
function describeFailure(answer: CommandResult): string {
  try {
    const error = parseObject(answer.stdout, 'error');
    const details = error.details === undefined ? '' : ` (${String(error.details)})`;
    return `code ${String(error.code)}: ${String(error.msg)}${details}`;
  } catch {
    return (answer.stderr.trim() || answer.stdout.trim() || `exit status ${answer.status}`).slice(0, 2000);
  }
}

function parseObject(text: string, what: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new AmbitError('CNI', `${what} is not JSON: ${text.slice(0, 200)}`, { cause: error });
  }
  if (!isRecord(value)) throw new AmbitError('CNI', `${what} is not an object`);
  return value;
}

function readIps(result: Readonly<Record<string, unknown>>): string[] {
  if (!Array.isArray(result.ips)) return [];
  return result.ips.flatMap((entry: unknown) => {
    if (!isRecord(entry) || typeof entry.address !== 'string') return [];
    const ip = parseIp(entry.address.replace(/\/[0-9]+$/, ''));
    return ip === undefined ? [] : [ip];
  });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
