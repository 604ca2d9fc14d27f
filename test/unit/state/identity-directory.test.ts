import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Certificates } from '../../../agent/state/certificates.ts';
import { IdentityDirectory } from '../../../agent/state/identity-directory.ts';
import { AmbitError, type ErrorCode } from '../../../core/errors.ts';
import { identityOf } from '../../support/certificate-source.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { createAuthority } from '../../support/pki.ts';

const A = identityOf('a');
const root = createAuthority();

/** A folder as Istio's tools write it, with a certificate for `uris`. */
function withFolder(run: (folder: string, write: (uris: string[]) => void) => Promise<void>): () => Promise<void> {
  return async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ambit-identity-'));
    const write = (uris: string[]) => {
      const leaf = root.intermediate('middle').issue({ uris });
      writeFileSync(join(folder, 'key.pem'), leaf.privateKeyPem);
      writeFileSync(join(folder, 'cert-chain.pem'), leaf.certificateChainPem);
      writeFileSync(join(folder, 'root-cert.pem'), root.pem + createAuthority('second').pem);
    };
    try {
      await run(folder, write);
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
}

const failsWith = (code: ErrorCode, text: RegExp) => (error: unknown) =>
  error instanceof AmbitError && error.code === code && text.test(error.message);

test(
  'a folder gives its key, its chain and every root',
  withFolder(async (folder, write) => {
    write([A]);
    const issued = await new IdentityDirectory(folder).fetch(A);
    assert.equal(issued.certificateChainPem.match(/BEGIN/g)?.length, 2);
    assert.equal(issued.rootsPem.match(/BEGIN/g)?.length, 2);
    assert.match(issued.privateKeyPem, /PRIVATE KEY/);
  }),
);

test(
  'a folder without files, or for another identity, is an error that says so',
  withFolder(async (folder, write) => {
    const source = new IdentityDirectory(folder);
    await assert.rejects(source.fetch(A), failsWith('CA', /cannot read .*\.pem/));
    write([identityOf('b')]);
    await assert.rejects(source.fetch(A), failsWith('CA', /not for spiffe/));
    write([A]);
    writeFileSync(join(folder, 'key.pem'), 'no key');
    await assert.rejects(source.fetch(A), failsWith('CA', /./));
  }),
);

test(
  'a certificate that somebody renewed in the folder is taken over',
  withFolder(async (folder, write) => {
    write([A]);
    const clock = new FakeClock(Date.now());
    const certificates = new Certificates({ source: new IdentityDirectory(folder), clock });
    const first = await certificates.get(A);
    write([A]);
    const renewed = new Promise((resolve) => {
      certificates.subscribe({ onIssued: resolve, onGone: () => {} });
    });
    await clock.advance((first.notAfterMs - clock.nowMs()) * 0.6);
    assert.notEqual((await renewed) && certificates.find(A)?.privateKeyPem, first.privateKeyPem);
    certificates.close();
  }),
);
