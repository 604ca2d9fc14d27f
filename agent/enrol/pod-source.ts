/**
 * Where an agent learns of pods, and where it tells what became of them: a folder with YAML, or the API server. One owner
 * of everything that talks to the API server for enrolment.
 */
import { AmbitError } from '../../core/errors.ts';
import { AGENT_VERSION } from '../../core/version.ts';
import { KubeClient } from '../../kube/client.ts';
import { EventRecorder } from '../../kube/events.ts';
import { FilePodDirectory } from './file-pod-directory.ts';
import { KubernetesPodDirectory } from './kubernetes-pod-directory.ts';
import { type EnrolmentObserver, NO_OBSERVER } from './observer.ts';
import type { PodDirectory } from './pod-directory.ts';
import { PodStatusWriter } from './pod-status-writer.ts';

/** Who writes events, as they show it. */
const CONTROLLER = 'ambit.io/agent';

export interface PodSource {
  readonly directory: PodDirectory;
  readonly observer: EnrolmentObserver;
  /** What is not as it should be and is being tried again, in words. */
  problems(): string[];
  /** Resolves when everything told so far is written, or after `ms`. */
  settled(ms: number): Promise<void>;
  close(): Promise<void>;
}

export interface KubernetesSourceOptions {
  readonly kubeconfig: string | undefined;
  readonly nodeName: string;
  /** Name of the agent's pod. */
  readonly instance: string;
}

/** Rejects with `CONFIGURATION` when the folder cannot be read. */
export async function openFolderSource(folder: string): Promise<PodSource> {
  const directory = await FilePodDirectory.open(folder);
  return {
    directory,
    observer: NO_OBSERVER,
    problems: () => [],
    settled: async () => undefined,
    close: async () => directory.close(),
  };
}

/** Does not wait for the API server. Throws `CONFIGURATION` when there is no credential or no node name. */
export function openKubernetesSource({ kubeconfig, nodeName, instance }: KubernetesSourceOptions): PodSource {
  if (nodeName === '') throw new AmbitError('CONFIGURATION', 'NODE_NAME must be set to follow the pods of this node');
  const client = KubeClient.open({ kubeconfig, userAgent: `ambit-agent/${AGENT_VERSION}` });
  const directory = KubernetesPodDirectory.open({ client, nodeName });
  const events = new EventRecorder(client, CONTROLLER, instance);
  const writer = new PodStatusWriter(client, events, directory);
  return {
    directory,
    observer: writer,
    problems: () => [
      ...directory.degraded(),
      ...writer.failing().map(({ key, attempts, reason }) => `status of ${key}: ${reason} (attempt ${attempts})`),
    ],
    settled: (ms) => writer.settled(ms),
    close: async () => {
      await writer.close();
      directory.close();
      client.close();
    },
  };
}
