/** Finds the running sandbox and asks it, through the UNIX socket in its own /run. */
import { request } from 'node:http';
import { isRecord } from '../core/decoder.ts';
import { AmbitError } from '../core/errors.ts';
import type { PodStatusView, StatusView } from '../sandbox/command-server.ts';
import { commandSocketOf, listLiveRuns, type SandboxRun } from '../sandbox/registry.ts';

const TIMEOUT_MS = 15_000;

/** Throws `NO_SANDBOX` when there is none. With several, the one AMBIT_SANDBOX names, else the one started last. */
export async function getSandbox(): Promise<SandboxRun> {
  const run = await findSandbox();
  if (run === undefined) throw new AmbitError('NO_SANDBOX', noSandboxText());
  return run;
}

/** As `getSandbox`; undefined when there is none. */
export async function findSandbox(): Promise<SandboxRun | undefined> {
  const wanted = process.env.AMBIT_SANDBOX;
  return (await listLiveRuns()).filter((run) => wanted === undefined || run.id === wanted).at(-1);
}

function noSandboxText(): string {
  return process.getuid?.() === 0 ? 'no sandbox is running' : 'no sandbox is running that this user may see (not root)';
}

/** Status of the running sandbox. */
export async function fetchStatus(run: SandboxRun): Promise<StatusView> {
  const value = await askSandbox(run, 'GET', '/status');
  const list = (name: string): readonly Record<string, unknown>[] => {
    const field = value[name];
    return Array.isArray(field) ? field.filter(isRecord) : [];
  };
  return {
    processes: list('processes').map((row) => ({
      name: String(row.name),
      pid: Number(row.pid),
      restarts: Number(row.restarts),
    })),
    pods: list('pods').map((row) => ({
      pod: String(row.pod),
      node: String(row.node),
      netns: String(row.netns),
      ip: String(row.ip),
      state: String(row.state),
      enrolled: row.enrolled === true,
      problem: String(row.problem),
    })),
  };
}

/** The pod a person means by `namespace/name`, by its name alone where that is clear, or by the start of its name. */
export function findPodByName(status: StatusView, wanted: string): PodStatusView {
  const exact = status.pods.filter(({ pod }) => pod === wanted || pod.endsWith(`/${wanted}`));
  const [found, ...others] = exact.length > 0 ? exact : status.pods.filter(({ pod }) => pod.includes(`/${wanted}`));
  if (found !== undefined && others.length === 0) return found;
  const names = (found === undefined ? status.pods : [found, ...others]).map(({ pod }) => pod).join(', ');
  const what = found === undefined ? `there is no pod ${wanted}` : `${wanted} is more than one pod`;
  throw new AmbitError('CONFIGURATION', `${what}; choose from: ${names}`);
}

/** One request to the sandbox; throws `SANDBOX` with its own words when it refuses. */
export async function askSandbox(
  run: SandboxRun,
  method: 'GET' | 'POST',
  path: string,
): Promise<Readonly<Record<string, unknown>>> {
  const { status, value } = await requestJson(commandSocketOf(run), method, path);
  if (!isRecord(value)) throw new AmbitError('SANDBOX', 'the sandbox gave no answer that makes sense');
  if (status >= 400) throw new AmbitError('SANDBOX', String(value.error ?? `status ${status}`));
  return value;
}

function requestJson(socketPath: string, method: string, path: string): Promise<{ status: number; value: unknown }> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void =>
      reject(new AmbitError('SANDBOX', 'the sandbox does not answer (starting or ending?)', { cause: error }));
    const outgoing = request({ socketPath, method, path: encodeURI(path), timeout: TIMEOUT_MS }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', fail);
      response.on('end', () => {
        try {
          resolve({ status: response.statusCode ?? 0, value: JSON.parse(Buffer.concat(chunks).toString('utf8')) });
        } catch (error) {
          fail(error);
        }
      });
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer')));
    outgoing.on('error', fail);
    outgoing.end();
  });
}
