/**
 * How the agent reaches the control plane and the CA: TLS 1.3 verified against a root file, a bearer token from a file.
 * Both files are read when they are needed, so that a rotation is picked up without a restart. While there is no root file
 * yet, somebody else may be asked for the roots.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type Client, Metadata } from '@grpc/grpc-js';
import { AmbitError } from '../../core/errors.ts';
import { openTlsClient } from '../../core/grpc.ts';

export interface ControlEndpoint {
  /** `host:port`. */
  readonly address: string;
  /** PEM; undefined trusts the roots of the system. */
  readonly rootCaFile?: string | undefined;
  /** PEM, asked for while `rootCaFile` does not exist. Rejects with an AmbitError. */
  readonly askForRoots?: (() => Promise<string>) | undefined;
  /** Undefined sends no token. */
  readonly tokenFile?: string | undefined;
  readonly clusterId?: string | undefined;
  /** Name the server certificate must carry where it is not the host of `address`. */
  readonly serverName?: string | undefined;
}

/** The roots as they are now, or undefined for those of the system. @throws AmbitError `CONFIGURATION`, or as `askForRoots` */
export async function readRoots({ rootCaFile, askForRoots }: ControlEndpoint): Promise<string | undefined> {
  if (rootCaFile === undefined) return undefined;
  if (askForRoots !== undefined && !existsSync(rootCaFile)) return await askForRoots();
  return await readText(rootCaFile, 'root certificates');
}

/** A new channel; it connects on first use. The caller closes it. @throws AmbitError `CONFIGURATION` for bad roots */
export function openControlClient(endpoint: ControlEndpoint, rootsPem: string | undefined): Client {
  try {
    const { address, serverName } = endpoint;
    // A channel of its own: closing one client must not end the connection of another.
    return openTlsClient({ address, serverName, rootsPem }, { 'grpc.use_local_subchannel_pool': 1 });
  } catch (thrown) {
    throw new AmbitError('CONFIGURATION', 'the root certificates of the control plane cannot be used', {
      cause: thrown,
    });
  }
}

/** `authorization` and `clusterid` of one request. @throws AmbitError `CONFIGURATION` when the token cannot be read */
export async function readMetadata(endpoint: ControlEndpoint): Promise<Metadata> {
  const metadata = new Metadata();
  if (endpoint.tokenFile !== undefined) {
    const token = (await readText(endpoint.tokenFile, 'token')).trim();
    if (!/^[\x21-\x7e]+$/.test(token))
      throw new AmbitError('CONFIGURATION', `the token in ${endpoint.tokenFile} is empty or not a token`);
    metadata.set('authorization', `Bearer ${token}`);
  }
  if (endpoint.clusterId !== undefined) metadata.set('clusterid', endpoint.clusterId);
  return metadata;
}

async function readText(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (thrown) {
    throw new AmbitError('CONFIGURATION', `cannot read the ${what} from ${path}`, { cause: thrown });
  }
}
