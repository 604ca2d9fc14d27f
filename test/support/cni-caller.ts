/**
 * Calls CNI plugins the way a container runtime does: one process per call inside the node's network namespace, parameters
 * in the environment, configuration on standard input. Returns what the plugin printed, error objects included.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TestNamespace } from './netns.ts';

const REFERENCE_FOLDERS = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'];
const CALL_DEADLINE_MS = 15_000;

export interface CniCall {
  readonly command: string;
  readonly plugin: string;
  readonly config: unknown;
  readonly environment?: Readonly<Record<string, string>>;
}

export interface CniOutcome {
  readonly status: number | null;
  /** Standard output as JSON; undefined when the plugin printed nothing. */
  readonly output: Record<string, unknown> | undefined;
  readonly stderr: string;
  readonly durationMs: number;
}

/** Folder of the reference plugins (package containernetworking-plugins); throws when they are not installed. */
export function referencePlugins(): string {
  const found = REFERENCE_FOLDERS.find((folder) => existsSync(join(folder, 'bridge')));
  if (found === undefined) throw new Error('install the package containernetworking-plugins');
  return found;
}

export async function callCni(node: TestNamespace, call: CniCall): Promise<CniOutcome> {
  const started = performance.now();
  const input = typeof call.config === 'string' ? call.config : JSON.stringify(call.config);
  const child = spawn('nsenter', [`--net=${node.path}`, call.plugin], {
    env: { PATH: process.env.PATH, CNI_COMMAND: call.command, CNI_PATH: referencePlugins(), ...call.environment },
    stdio: 'pipe',
    timeout: CALL_DEADLINE_MS,
    killSignal: 'SIGKILL',
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  child.stdin.on('error', () => undefined).end(input);
  const [status]: (number | null)[] = await once(child, 'close');
  const durationMs = performance.now() - started;
  return { status: status ?? null, output: stdout.trim() === '' ? undefined : JSON.parse(stdout), stderr, durationMs };
}
