/** The command line of this checkout as somebody in a terminal uses it: what it prints and how it ends, whichever way. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { clusterBinary } from './cluster-binaries.ts';
import { ROOT } from './source-files.ts';

const TIMEOUT_MS = 180_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Rejects only when the command could not be started or was killed. */
export function ambit(kubeconfig: string, ...args: readonly string[]): Promise<CommandResult> {
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
  execFile(
    process.execPath,
    [join(ROOT, 'cli', 'main.ts'), ...args],
    {
      timeout: TIMEOUT_MS,
      maxBuffer: MAX_OUTPUT_BYTES,
      env: { ...process.env, KUBECONFIG: kubeconfig, HELM: clusterBinary('helm') },
    },
    (error, stdout, stderr) => {
      if (error === null) resolve({ code: 0, stdout, stderr });
      else if (typeof error.code === 'number') resolve({ code: error.code, stdout, stderr });
      else reject(new Error(`ambit ${args.join(' ')}: ${error.message}\n${stdout}${stderr}`, { cause: error }));
    },
  );
  return promise;
}
