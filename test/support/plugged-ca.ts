/**
 * A CA that somebody else runs, made by the OpenSSL command: roots, intermediates with their keys, revocation lists, and
 * the files in which it is plugged into a control plane.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface OutsideCa {
  readonly name: string;
  readonly certificatePem: string;
  readonly keyPem: string;
  /** Every certificate above, PEM, the nearest first, the root included; empty for a root. */
  readonly above: string;
}

export interface CaOptions {
  /** An OpenSSL `-newkey` argument with its options. */
  readonly newKey?: readonly string[];
  readonly days?: number;
  /** PEM of a key to use instead of a new one. */
  readonly key?: string;
}

const EC: readonly string[] = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
export const RSA: readonly string[] = ['-newkey', 'rsa:2048'];
const CA_EXTENSIONS =
  'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n';

export function outsideRoot(name: string, { newKey = EC, days = 30, key }: CaOptions = {}): OutsideCa {
  return inFolder((folder) => {
    const subject = `/O=Example Ltd/CN=${name}`;
    if (key !== undefined) writeFileSync(join(folder, 'key.pem'), key);
    const keyArgs = key === undefined ? [...newKey, '-nodes', '-keyout', 'key.pem'] : ['-key', 'key.pem'];
    openssl(folder, ['req', '-new', ...keyArgs, '-out', 'csr', '-subj', subject]);
    writeFileSync(join(folder, 'ext'), CA_EXTENSIONS);
    const sign = ['x509', '-req', '-in', 'csr', '-signkey', 'key.pem', '-extfile', 'ext', '-days', String(days)];
    openssl(folder, [...sign, '-out', 'cert.pem']);
    return { name, certificatePem: read(folder, 'cert.pem'), keyPem: read(folder, 'key.pem'), above: '' };
  });
}

export function outsideIntermediate(parent: OutsideCa, name: string, options: CaOptions = {}): OutsideCa {
  const { newKey = EC, days = 10 } = options;
  return inFolder((folder) => {
    writeFileSync(join(folder, 'parent.pem'), parent.certificatePem);
    writeFileSync(join(folder, 'parent.key'), parent.keyPem);
    writeFileSync(join(folder, 'ext'), `${CA_EXTENSIONS}authorityKeyIdentifier=keyid\n`);
    openssl(folder, [
      'req',
      '-new',
      ...newKey,
      '-nodes',
      '-keyout',
      'key.pem',
      '-out',
      'csr',
      '-subj',
      `/O=Example Ltd/CN=${name}`,
    ]);
    const sign = ['x509', '-req', '-in', 'csr', '-CA', 'parent.pem', '-CAkey', 'parent.key', '-extfile', 'ext'];
    openssl(folder, [...sign, '-days', String(days), '-out', 'cert.pem']);
    const above = parent.certificatePem + parent.above;
    return { name, certificatePem: read(folder, 'cert.pem'), keyPem: read(folder, 'key.pem'), above };
  });
}

/** The files of a plugged-in CA as Istio names them. `roots`: PEM of all trusted roots. */
export function pluginTexts(ca: OutsideCa, roots: string, crl?: string): Record<string, string> {
  return {
    'ca-cert.pem': ca.certificatePem,
    'ca-key.pem': ca.keyPem,
    'cert-chain.pem': ca.certificatePem + ca.above,
    'root-cert.pem': roots,
    ...(crl === undefined ? {} : { 'ca-crl.pem': crl }),
  };
}

/** A revocation list of a CA. `serials`: hexadecimal. */
export function revocationList(ca: OutsideCa, serials: readonly string[]): string {
  return inFolder((folder) => {
    writeFileSync(join(folder, 'ca.pem'), ca.certificatePem);
    writeFileSync(join(folder, 'ca.key'), ca.keyPem);
    const rows = serials.map((serial) => `R\t400101000000Z\t260101000000Z\t${serial}\tunknown\t/CN=gone\n`);
    writeFileSync(join(folder, 'index.txt'), rows.join(''));
    writeFileSync(join(folder, 'number'), '01\n');
    const config =
      '[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=7\n';
    writeFileSync(join(folder, 'config'), config);
    openssl(folder, ['ca', '-gencrl', '-config', 'config', '-cert', 'ca.pem', '-keyfile', 'ca.key', '-out', 'crl.pem']);
    return read(folder, 'crl.pem');
  });
}

/** Writes the files into a folder, which is made. */
export function writePlugin(folder: string, texts: Readonly<Record<string, string>>): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(texts)) writeFileSync(join(folder, name), text);
}

function openssl(folder: string, args: readonly string[]): void {
  execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
}

function read(folder: string, name: string): string {
  return readFileSync(join(folder, name), 'utf8');
}

function inFolder<T>(work: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-outside-ca-'));
  try {
    return work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
