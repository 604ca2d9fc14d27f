import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { describe, test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { CaClient, type CaClientOptions } from '../../agent/state/ca-client.ts';
import { Certificates } from '../../agent/state/certificates.ts';
import { type IstioCertificateRequest, IstioCertificateResponseSchema } from '../../api/gen/istio/v1/auth/ca_pb.js';
import { readCertificateRequest } from '../../control/ca/certificate-request.ts';
import { AmbitError, type ErrorCode } from '../../core/errors.ts';
import type { SpiffeId } from '../../core/spiffe.ts';
import { identityOf } from '../support/certificate-source.ts';
import { ControlServer, TestRoot } from '../support/control-server.ts';

const A = identityOf('a');
const NEVER = new AbortController().signal;

/** Runs the test with a server that signs what it is asked and a client of it. */
async function withCa(
  run: (server: ControlServer, client: CaClient) => Promise<void>,
  options: Partial<CaClientOptions> = {},
): Promise<void> {
  const server = await ControlServer.start();
  const client = new CaClient({ endpoint: server.endpoint, secretTtlMs: 86_400_000, impersonate: true, ...options });
  answer(server, (request) => [sign(server, request), server.root.pem]);
  try {
    await run(server, client);
  } finally {
    client.close();
    server.close();
  }
}

function answer(server: ControlServer, chainOf: (request: IstioCertificateRequest) => string[]): void {
  server.onCertificate = (request, _metadata, reply) =>
    reply(null, create(IstioCertificateResponseSchema, { certChain: chainOf(request) }));
}

function sign(server: ControlServer, { csr, metadata }: IstioCertificateRequest, identity?: SpiffeId): string {
  const wanted = identity ?? metadata?.ImpersonatedIdentity;
  const value = typeof wanted === 'string' ? wanted : A;
  return server.root.sign(readCertificateRequest(csr), [{ kind: 'uri', value }]);
}

const failsWith = (code: ErrorCode, text: RegExp) => (error: unknown) =>
  error instanceof AmbitError && error.code === code && text.test(error.message);

describe('a certificate', () => {
  test('is asked for with a request of its own, the identity, the lifetime and the token', () =>
    withCa(async (server, client) => {
      const seen: string[] = [];
      const { onCertificate } = server;
      server.onCertificate = (request, metadata, reply) => {
        seen.push(`${metadata.get('authorization')} ${metadata.get('clusterid')}`);
        onCertificate(request, metadata, reply);
      };
      const issued = await client.fetch(A, NEVER);
      server.writeFile('token', 'second-token');
      const again = await client.fetch(A, NEVER);
      assert.deepEqual(seen, ['Bearer first-token cluster-1', 'Bearer second-token cluster-1']);
      const [request] = server.certificateRequests;
      assert.equal(request?.validityDuration, 86_400n);
      assert.deepEqual(request?.metadata, { ImpersonatedIdentity: A });
      assert.notEqual(again.privateKeyPem, issued.privateKeyPem, 'every request has its own key');
      const leaf = new X509Certificate(issued.certificateChainPem);
      assert.equal(leaf.subjectAltName, `URI:${A}`);
      assert.ok(leaf.checkPrivateKey(createPrivateKey(issued.privateKeyPem)));
      assert.equal(issued.rootsPem.trim(), server.root.pem.trim());
      assert.equal(issued.notAfterMs, leaf.validToDate.getTime());
    }));

  test('for an agent with an identity of its own is asked for without naming one', () =>
    withCa(
      async (server, client) => {
        await client.fetch(A, NEVER);
        assert.deepEqual(server.certificateRequests[0]?.metadata, {});
      },
      { impersonate: false },
    ));

  test('keeps intermediates in the chain and every root of the bundle', () =>
    withCa(async (server, client) => {
      const [other, third] = [new TestRoot('other'), new TestRoot('third')];
      answer(server, (request) => [sign(server, request), other.pem, third.pem, `${server.root.pem}${other.pem}`]);
      const { certificateChainPem, rootsPem } = await client.fetch(A, NEVER);
      assert.equal(certificateChainPem.match(/BEGIN/g)?.length, 3);
      assert.equal(rootsPem.match(/BEGIN/g)?.length, 2);
    }));

  test('leaves out roots that are none, but needs one', () =>
    withCa(async (server, client) => {
      const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
      answer(server, (request) => [sign(server, request), `${broken}${server.root.pem}`]);
      assert.equal((await client.fetch(A, NEVER)).rootsPem.trim(), server.root.pem.trim());
      answer(server, (request) => [sign(server, request), broken]);
      await assert.rejects(client.fetch(A, NEVER), failsWith('CA', /no root/));
    }));

  const strangerKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
  const refused: [string, (server: ControlServer, request: IstioCertificateRequest) => string[], RegExp][] = [
    ['an empty chain', () => [], /chain is empty/],
    ['a leaf without root', (server, request) => [sign(server, request)], /no root/],
    [
      'another identity',
      (server, request) => [sign(server, request, identityOf('b')), server.root.pem],
      /not for spiffe/,
    ],
    [
      'another key',
      (server) => [server.root.sign(strangerKey, [{ kind: 'uri', value: A }]), server.root.pem],
      /not for the key/,
    ],
    [
      'a host name that looks like it',
      (server, { csr }) => [
        server.root.sign(readCertificateRequest(csr), [{ kind: 'dns', value: `x, URI:${A}` }]),
        server.root.pem,
      ],
      /not for spiffe/,
    ],
    ['something that is no certificate', (server) => ['nonsense', server.root.pem], /chain is empty/],
  ];
  for (const [name, chainOf, text] of refused)
    test(`with ${name} is refused`, () =>
      withCa(async (server, client) => {
        answer(server, (request) => chainOf(server, request));
        await assert.rejects(client.fetch(A, NEVER), failsWith('CA', text));
      }));
});

describe('the CA', () => {
  test('that refuses is an error with its words', () =>
    withCa(async (server, client) => {
      server.onCertificate = (_request, _metadata, reply) =>
        reply({ code: 16, details: 'request authenticate failure' });
      await assert.rejects(client.fetch(A, NEVER), failsWith('CA', /request authenticate failure/));
    }));

  test('that does not answer is given up on', () =>
    withCa(
      async (server, client) => {
        server.onCertificate = () => {};
        await assert.rejects(client.fetch(A, NEVER), failsWith('CA', /DEADLINE_EXCEEDED/));
      },
      { requestTimeoutMs: 100 },
    ));

  test('that does not answer is left at once when the certificate is no longer wanted', () =>
    withCa(async (server, client) => {
      const controller = new AbortController();
      server.onCertificate = () => controller.abort();
      await assert.rejects(client.fetch(A, controller.signal), failsWith('CA', /no longer wanted/));
    }));

  test('that proves another root is not talked to; a new root file is used at once, an unreadable one is not', () =>
    withCa(async (server, client) => {
      server.writeFile('root.pem', new TestRoot().pem);
      await assert.rejects(client.fetch(A, NEVER), failsWith('CA', /./));
      assert.equal(server.certificateRequests.length, 0);
      server.writeFile('root.pem', server.root.pem);
      await client.fetch(A, NEVER);
      const unreadable = new CaClient({
        endpoint: { ...server.endpoint, rootCaFile: server.path('missing') },
        secretTtlMs: 1,
        impersonate: true,
      });
      await assert.rejects(unreadable.fetch(A, NEVER), failsWith('CONFIGURATION', /root certificates/));
      unreadable.close();
    }));

  test('is not asked without a token that can be read', () =>
    withCa(async (server, client) => {
      server.writeFile('token', ' \n');
      await assert.rejects(client.fetch(A, NEVER), failsWith('CONFIGURATION', /token/));
      assert.equal(server.certificateRequests.length, 0);
    }));

  test('serves certificates to everyone who wants one, eight at a time', () =>
    withCa(async (server, client) => {
      const certificates = new Certificates({ source: client });
      const identities = Array.from({ length: 40 }, (_, index) => identityOf(`sa-${index}`));
      const issued = await Promise.all(identities.map((identity) => certificates.get(identity)));
      assert.equal(server.certificateRequests.length, 40);
      for (const { privateKeyPem, certificateChainPem } of issued)
        assert.ok(new X509Certificate(certificateChainPem).publicKey.equals(createPublicKey(privateKeyPem)));
      certificates.close();
    }));
});
