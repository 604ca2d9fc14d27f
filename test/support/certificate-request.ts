/** Certificate requests for tests: made by OpenSSL as a caller would, or bent on purpose. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Key of a request: an OpenSSL `genpkey` algorithm and its options. */
export interface RequestKey {
  readonly algorithm: 'EC' | 'RSA' | 'ED25519';
  readonly options: readonly string[];
}

export const P256: RequestKey = { algorithm: 'EC', options: ['ec_paramgen_curve:P-256'] };

/** A PKCS#10 request in PEM with its private key, both made by the OpenSSL command. */
export function makeRequest(
  key: RequestKey = P256,
  extra: readonly string[] = ['-subj', '/', '-addext', 'subjectAltName=critical,URI:spiffe://evil/ns/x/sa/y'],
): { csr: string; keyPem: string } {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-csr-'));
  try {
    const keyPath = join(folder, 'key.pem');
    const options = key.options.flatMap((option) => ['-pkeyopt', option]);
    execFileSync('openssl', ['genpkey', '-algorithm', key.algorithm, ...options, '-out', keyPath], { stdio: 'pipe' });
    const csr = execFileSync('openssl', ['req', '-new', '-key', keyPath, ...extra], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    return { csr: csr.toString(), keyPem: readFileSync(keyPath, 'utf8') };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The request with one byte of its DER changed; `at` counts from the start, negative from the end. */
export function bend(csr: string, at: number): string {
  const der = Buffer.from(csr.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  const index = at < 0 ? der.length + at : at;
  der[index] = (der[index] ?? 0) ^ 0x01;
  return pem(der);
}

export function pem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE REQUEST-----\n${lines.join('\n')}\n-----END CERTIFICATE REQUEST-----\n`;
}

/** What `openssl verify` says of a chain under strict RFC 5280 rules. `chainPem`: certificates between leaf and root. */
export function opensslVerify(rootsPem: string, leafPem: string, extra: readonly string[] = [], chainPem = ''): string {
  const folder = mkdtempSync(join(tmpdir(), 'ambit-verify-'));
  try {
    const roots = join(folder, 'roots.pem');
    const leaf = join(folder, 'leaf.pem');
    execFileSync('sh', ['-c', 'cat > "$0"', roots], { input: rootsPem });
    execFileSync('sh', ['-c', 'cat > "$0"', leaf], { input: leafPem });
    const chain = join(folder, 'chain.pem');
    execFileSync('sh', ['-c', 'cat > "$0"', chain], { input: chainPem });
    const between = chainPem === '' ? [] : ['-untrusted', chain];
    const strict = ['-x509_strict', '-no-CApath', '-no-CAstore', ...extra, ...between];
    const args = ['verify', ...strict, '-CAfile', roots, leaf];
    return execFileSync('openssl', args, { stdio: 'pipe' }).toString().replace(leaf, 'leaf').trim();
  } catch (thrown) {
    return `failed: ${thrown instanceof Error ? thrown.message : String(thrown)}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
