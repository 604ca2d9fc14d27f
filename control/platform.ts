/**
 * Where the mesh lives: in a cluster or in a folder. What differs between the two is chosen here and nowhere else: the
 * source of objects, the store of the CA, how callers prove who they are, and whether there is anybody to be elected
 * among.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { AmbitError } from '../core/errors.ts';
import { AGENT_VERSION } from '../core/version.ts';
import { KubeClient } from '../kube/client.ts';
import { KubernetesTokenAuthenticator } from './authentication/kubernetes-tokens.ts';
import { TokenKeys } from './authentication/token-keys.ts';
import { FileRootStore } from './ca/file-root-store.ts';
import { findRootStore } from './ca/find-root-store.ts';
import type { ControlConfig } from './config.ts';
import type { IdentityPlatform } from './identity.ts';
import type { ObjectStore } from './model/object-store.ts';
import { FILE_SOURCE_TIMES, FileSource } from './sources/files.ts';
import { KubernetesSource } from './sources/kubernetes.ts';
import type { Source } from './sources/source.ts';
import { openTokenKey, TokenAuthenticator } from './tokens.ts';

export interface Platform {
  readonly source: Source;
  readonly identity: IdentityPlatform;
  /** Absent where there is no cluster: then nothing is written to one. */
  readonly cluster: Cluster | undefined;
  /** As operators and agents know this replica. */
  readonly replica: string;
  close(): void;
}

export interface Cluster {
  readonly client: KubeClient;
  /** Of this replica. */
  readonly namespace: string;
  /** Unique among replicas and their lives. */
  readonly identity: string;
}

/** Reads what there is to read of keys and credentials; connects to nothing. Throws CONFIGURATION. */
export function openPlatform(config: ControlConfig, store: ObjectStore): Platform {
  return config.source === 'kubernetes' ? kubernetes(config, store) : files(config);
}

function files(config: ControlConfig): Platform {
  const { configDir, stateDir } = config;
  if (configDir === undefined || stateDir === undefined) throw new AmbitError('USAGE', 'the file source needs folders');
  const key = openTokenKey(config.tokenKey ?? join(stateDir, 'token-key.pem'));
  return {
    source: new FileSource(configDir, FILE_SOURCE_TIMES, join(stateDir, 'kept')),
    identity: {
      openRootStore: async () => new FileRootStore(stateDir, config.trustDomain),
      tokens: new TokenAuthenticator(key),
      alone: true,
    },
    cluster: undefined,
    replica: replicaOf(config),
    close: () => undefined,
  };
}

function kubernetes(config: ControlConfig, store: ObjectStore): Platform {
  const client = KubeClient.open({ kubeconfig: config.kubeconfig, userAgent: `ambit-control/${AGENT_VERSION}` });
  const { rootNamespace, trustDomain, pluginCaDir: pluginFolder } = config;
  const namespace = config.podNamespace === '' ? rootNamespace : config.podNamespace;
  const replica = replicaOf(config);
  return {
    source: new KubernetesSource(client, { rootNamespace }),
    identity: {
      openRootStore: () => findRootStore(client, { namespace, trustDomain, pluginFolder }),
      tokens: new KubernetesTokenAuthenticator(client, {
        audiences: config.tokenAudiences,
        nodeAccounts: new Set(config.trustedNodeAccounts),
        keys: new TokenKeys(client),
        nodeOfPod: (of, name, uid) => {
          const pod = store.find('Pod', of, name);
          return pod?.meta.uid === uid && pod.nodeName !== '' ? pod.nodeName : undefined;
        },
      }),
      alone: false,
    },
    cluster: { client, namespace, identity: `${replica}_${randomBytes(4).toString('hex')}` },
    replica,
    close: () => client.close(),
  };
}

function replicaOf({ podName }: ControlConfig): string {
  return podName === '' ? hostname() : podName;
}
