/**
 * The parameters of one CNI call: environment variables (specification section "Parameters") and the Kubernetes part of
 * `CNI_ARGS`. Throws CniError 4 naming every variable that is missing or malformed.
 */
import type { Attachment, PodReference } from '../core/enrolment/cni-wire.ts';
import { CNI_ERROR, CniError } from './cni-error.ts';

export const COMMANDS = ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC', 'VERSION'] as const;
export type Command = (typeof COMMANDS)[number];

export type Environment = Readonly<Record<string, string | undefined>>;

export function readCommand(environment: Environment): Command {
  const command = COMMANDS.find((known) => known === environment.CNI_COMMAND);
  if (command !== undefined) return command;
  throw new CniError(CNI_ERROR.invalidEnvironment, `CNI_COMMAND must be one of ${COMMANDS.join(', ')}`);
}

export function readAttachment(environment: Environment): Attachment {
  const values = required(environment, ['CNI_CONTAINERID', 'CNI_IFNAME']);
  return { containerId: values.CNI_CONTAINERID ?? '', ifName: values.CNI_IFNAME ?? '' };
}

export function readNetns(environment: Environment): string {
  return required(environment, ['CNI_NETNS']).CNI_NETNS ?? '';
}

/** The pod the runtime sets the sandbox up for; undefined when the caller is not a Kubernetes runtime. */
export function findPodReference(environment: Environment): PodReference | undefined {
  const args = new Map(
    (environment.CNI_ARGS ?? '').split(';').map((pair): [string, string] => {
      const equals = pair.indexOf('=');
      return equals < 0 ? [pair, ''] : [pair.slice(0, equals), pair.slice(equals + 1)];
    }),
  );
  const namespace = args.get('K8S_POD_NAMESPACE');
  const name = args.get('K8S_POD_NAME');
  if (!namespace || !name) return undefined;
  return { namespace, name, uid: args.get('K8S_POD_UID') || undefined };
}

function required(environment: Environment, names: readonly string[]): Environment {
  const missing = names.filter((name) => !environment[name]);
  if (missing.length > 0) throw new CniError(CNI_ERROR.invalidEnvironment, `${missing.join(' and ')} must be set`);
  return environment;
}
