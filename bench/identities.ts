/** Keys and certificates for one pair: a P-256 root and two SPIFFE leaves, as files in the forms the proxies read. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { publicHalf, signLeaf, signRoot } from '../control/ca/certificate.ts';

const DAY_MS = 86_400_000;

/** Folders with `key.pem`, `cert-chain.pem`, `root-cert.pem`, and `combined.pem` (certificate and key). */
export interface PairIdentities {
  readonly client: string;
  readonly server: string;
}

export const CLIENT_IDENTITY = 'spiffe://cluster.local/ns/bench/sa/client';
export const SERVER_IDENTITY = 'spiffe://cluster.local/ns/bench/sa/server';

export function createIdentities(folder: string): PairIdentities {
  const privateKey = newKey();
  const name = { organization: 'cluster.local', commonName: 'Ambit benchmark root' };
  const issuer = { name, privateKey, publicKey: publicHalf(privateKey) };
  const validity = { notBeforeMs: Date.now() - 60_000, notAfterMs: Date.now() + DAY_MS };
  const root = signRoot(issuer, validity).pem;
  const write = (side: string, identity: string): string => {
    const key = newKey();
    const names = [{ kind: 'uri' as const, value: identity }];
    const certificate = signLeaf(issuer, publicHalf(key), names, validity).pem;
    const keyPem = key.export({ type: 'pkcs8', format: 'pem' }).toString();
    const target = join(folder, side);
    mkdirSync(target, { recursive: true });
    writeFileSync(join(target, 'key.pem'), keyPem, { mode: 0o600 });
    writeFileSync(join(target, 'cert-chain.pem'), certificate);
    writeFileSync(join(target, 'root-cert.pem'), root);
    writeFileSync(join(target, 'combined.pem'), `${certificate}\n${keyPem}`, { mode: 0o600 });
    return target;
  };
  return { client: write('client', CLIENT_IDENTITY), server: write('server', SERVER_IDENTITY) };
}

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}
