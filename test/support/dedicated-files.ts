/**
 * What dedicated agents are given as files: a mesh in which every pod is a workload with an agent, and for each pod a
 * folder with its identity. The service account is the label of the pod.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TlsMaterial } from '../../reactor/tls/context.ts';
import type { TestPod } from './netns.ts';
import { createAuthority, type TestAuthority } from './pki.ts';

export function identityOf(pod: TestPod): string {
  return `spiffe://cluster.local/ns/default/sa/${pod.label}`;
}

export class DedicatedFiles implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'ambit-dedicated-'));
  readonly #config = join(this.#directory, 'mesh.yaml');
  readonly #authority: TestAuthority = createAuthority();

  constructor(pods: readonly TestPod[]) {
    const workloads = pods.map((pod) => ({
      name: pod.label,
      namespace: 'default',
      serviceAccount: pod.label,
      workloadIps: [pod.address],
      protocol: 'HBONE',
      node: `node-of-${pod.label}`,
      services: {},
    }));
    writeFileSync(this.#config, JSON.stringify({ workloads }));
  }

  /** A certificate for the pod, made anew. */
  material(pod: TestPod): TlsMaterial {
    return { ...this.#authority.issue({ uris: [identityOf(pod)] }), rootsPem: this.#authority.pem };
  }

  /** Writes the identity of the pod; the arguments of its agent. */
  args(pod: TestPod): string[] {
    const { label } = pod;
    const folder = join(this.#directory, label);
    const material = this.material(pod);
    mkdirSync(folder);
    writeFileSync(join(folder, 'key.pem'), material.privateKeyPem);
    writeFileSync(join(folder, 'cert-chain.pem'), material.certificateChainPem);
    writeFileSync(join(folder, 'root-cert.pem'), material.rootsPem);
    return [
      '--dedicated',
      `default/${label}/${label}`,
      '--config',
      this.#config,
      '--identity-dir',
      folder,
      '--capture',
    ];
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}
