/** Starts a command inside the namespaces of a running sandbox, on this terminal. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { AmbitError } from '../core/errors.ts';
import { HOSTS_DIRECTORY } from '../sandbox/layout.ts';
import { podCommand } from '../sandbox/pod-command.ts';
import type { SandboxRun } from '../sandbox/registry.ts';

/**
 * `argv` as it would be started by the sandbox itself: in its mount and process namespaces, hence with its /run and gone
 * with it at the latest.
 */
export function enterWorld(run: SandboxRun, argv: readonly string[], stdio: StdioOptions): ChildProcess {
  const args = [`--target=${run.world.pid}`, '--mount', '--pid', '--ipc', '--', ...argv];
  return spawn('nsenter', args, { stdio });
}

/** The command line that runs `argv` inside a pod, for `enterWorld`. */
export function enterPod(podName: string, netns: string, argv: readonly string[]): readonly string[] {
  const [namespace = ''] = podName.split('/');
  return podCommand(netns, `${HOSTS_DIRECTORY}/${namespace}`, argv);
}

/** Resolves with the exit status, as a shell counts: 128 + signal number is 130 for an interrupt. */
export function awaitExit(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new AmbitError('MISSING_TOOL', `nsenter: ${error.message}`)));
    child.once('exit', (status, signal) => resolve(status ?? (signal === 'SIGINT' ? 130 : 143)));
  });
}
