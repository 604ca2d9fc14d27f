/**
 * Which pod holds which network namespace. Two pods with one namespace would share an identity, so the second is refused.
 */
import { AmbitError } from '../../core/errors.ts';
import type { NetnsIdentity } from './pod-netns.ts';

export class NetnsClaims {
  readonly #owners = new Map<string, string>();

  /** UID of the pod that holds the namespace. */
  findOwner({ device, inode }: NetnsIdentity): string | undefined {
    return this.#owners.get(`${device}:${inode}`);
  }

  /** Throws `NETNS` when another pod holds the namespace. Returns the function that gives it back. */
  claim(netns: NetnsIdentity, podUid: string): () => void {
    const key = `${netns.device}:${netns.inode}`;
    const owner = this.#owners.get(key);
    if (owner !== undefined) {
      throw new AmbitError('NETNS', `the network namespace of this pod already belongs to pod ${owner}`);
    }
    this.#owners.set(key, podUid);
    return () => void this.#owners.delete(key);
  }
}
