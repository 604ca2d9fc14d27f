/**
 * Builds the Go programs of test/peers into the cache folder and starts them. What they depend on is pinned in go.sum;
 * Go's own build cache makes repeated builds quick.
 */
import { type ChildProcess, execFile, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { parseAuthority, type SocketAddress } from '../../core/ip.ts';
import type { TlsMaterial } from '../../reactor/tls/context.ts';
import { within } from './hbone-contract.ts';
import type { TestNamespace } from './netns.ts';
import { ROOT } from './source-files.ts';

const PROGRAMS = join(ROOT, '.cache', 'peers');

/** Path of the built program; `package` as `go build` takes it in test/peers. */
export async function buildGo(name: string, goPackage: string): Promise<string> {
  const program = join(PROGRAMS, name);
  await promisify(execFile)('go', ['build', '-o', program, goPackage], { cwd: join(ROOT, 'test', 'peers') });
  return program;
}

export interface RunningGoPeer {
  readonly address: SocketAddress;
  stop(): Promise<void>;
}

export interface GoPeerOptions {
  readonly program: string;
  readonly mode: 'server' | 'client' | 'forward';
  readonly material: TlsMaterial;
  /** What follows the folder of certificates on the command line. */
  readonly args: readonly string[];
  /** Where it runs, if not beside the test. */
  readonly namespace?: TestNamespace;
}

/** Starts hbone-peer; resolves when it listens. */
export async function startGoPeer(options: GoPeerOptions): Promise<RunningGoPeer> {
  const { program, mode, material, namespace } = options;
  const folder = await mkdtemp(join(tmpdir(), 'ambit-peer-'));
  await Promise.all([
    writeFile(join(folder, 'key.pem'), material.privateKeyPem, { mode: 0o600 }),
    writeFile(join(folder, 'cert-chain.pem'), material.certificateChainPem),
    writeFile(join(folder, 'root-cert.pem'), material.rootsPem),
  ]);
  const args = [mode, folder, ...options.args];
  const stdio: StdioOptions = ['pipe', 'pipe', 'inherit'];
  const child = namespace === undefined ? spawn(program, args, { stdio }) : namespace.spawn(program, args, { stdio });
  const stop = async (): Promise<void> => {
    await endChild(child);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    return { address: await firstLine(child), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function firstLine(child: ChildProcess): Promise<SocketAddress> {
  if (child.stdout === null) throw new Error('the peer has no output');
  const lines = createInterface(child.stdout);
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('the peer ended before it listened')));
  ended.catch(() => {});
  const [line] = await within('the peer listens', Promise.race([once(lines, 'line'), ended]));
  const parsed = parseAuthority(String(line));
  if (parsed?.kind !== 'address') throw new Error(`not an address: ${line}`);
  return parsed.address;
}

async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'close');
  child.kill('SIGKILL');
  await ended;
}
