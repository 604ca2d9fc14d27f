/**
 * The CNI plugin `ambit-cni`: started by the container runtime once per call, parameters in the environment and on
 * standard input, the result or an error object on standard output. Everything it imports is part of its start-up time,
 * so there is nothing but Node's own modules and a few leaves of core/.
 */
import { readFileSync } from 'node:fs';
import { readCommand } from './call.ts';
import { CNI_ERROR, CniError } from './cni-error.ts';
import { findCniVersion } from './cni-version.ts';
import { runCommand } from './commands.ts';

async function main(): Promise<void> {
  const input = readInput();
  try {
    const output = await runCommand(readCommand(process.env), process.env, input);
    if (output !== undefined) process.stdout.write(`${JSON.stringify(output)}\n`);
  } catch (thrown) {
    const error = thrown instanceof CniError ? thrown : new CniError(CNI_ERROR.internal, String(thrown));
    process.stdout.write(`${error.toJson(versionOf(input))}\n`);
    process.exitCode = 1;
  }
}

/** Nothing on standard input is an empty configuration, which the commands that need one refuse. */
function readInput(): string {
  try {
    return readFileSync(0, 'utf8');
  } catch {
    return '';
  }
}

/** Errors are written in the version of the configuration, where that much of it can be read. */
function versionOf(input: string): string | undefined {
  try {
    const config: unknown = JSON.parse(input);
    if (typeof config !== 'object' || config === null || !('cniVersion' in config)) return undefined;
    return findCniVersion(config.cniVersion);
  } catch {
    return undefined;
  }
}

void main();
