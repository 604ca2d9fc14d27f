/**
 * What a client of the certificate RPC may rely on, as one list that every client runs against the whole control plane: a
 * raw one, written from protocol facts alone, and the agent's own.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { CaClient } from '../../agent/state/ca-client.ts';
import { isSpiffeId } from '../../core/spiffe.ts';
import { makeRequest, opensslVerify } from './certificate-request.ts';
import { ControlFixture } from './control.ts';
import { field, numberField, parseFields, textsOf } from './raw-protobuf.ts';
import { openRawSession, RawCall } from './raw-xds-client.ts';

export interface Issued {
  readonly leafPem: string;
  readonly chainPem: string;
  readonly rootsPem: string;
}

export interface CaSubject {
  readonly name: string;
  /** Asks once for a certificate of this identity. `token` undefined: none is sent. Rejects when there is none. */
  fetch(context: TestContext, fixture: ControlFixture, token: string | undefined, identity: string): Promise<Issued>;
}

export interface CaBehaviour {
  readonly name: string;
  readonly run: (context: TestContext, subject: CaSubject) => Promise<void>;
}

const pod = (name: string, node: string, ip: string): string => `apiVersion: v1
kind: Pod
metadata: {name: ${name}-1, namespace: shop, annotations: {ambient.istio.io/redirection: enabled}}
spec: {nodeName: ${node}, serviceAccountName: ${name}}
status: {podIP: ${ip}}
`;
const MESH = `${pod('web', 'node-a', '10.0.0.1')}---\n${pod('db', 'node-b', '10.0.0.2')}`;
const WEB = 'spiffe://cluster.local/ns/shop/sa/web';

async function open(context: TestContext): Promise<{ fixture: ControlFixture; token: string }> {
  const fixture = await ControlFixture.start(context, { 'mesh.yaml': MESH });
  const [header = ''] = (await fixture.metadata()).get('authorization').map(String);
  return { fixture, token: header.replace('Bearer ', '') };
}

export const CA_CONFORMANCE: readonly CaBehaviour[] = [
  {
    name: 'gets a certificate for a pod on its node, with the chain to a root it is told',
    run: async (context, subject) => {
      const { fixture, token } = await open(context);
      const { leafPem, chainPem, rootsPem } = await subject.fetch(context, fixture, token, WEB);
      const leaf = new X509Certificate(leafPem);
      assert.equal(leaf.subjectAltName, `URI:${WEB}`);
      assert.equal(opensslVerify(rootsPem, chainPem), 'leaf: OK');
      assert.ok(fixture.rootsPem().includes(rootsPem.trim().slice(0, 200)));
      assert.ok(Date.parse(leaf.validTo) > Date.now() && Date.parse(leaf.validFrom) < Date.now());
    },
  },
  {
    name: 'is refused identities of pods elsewhere, of nobody and of strangers',
    run: async (context, subject) => {
      const { fixture, token } = await open(context);
      for (const identity of [
        'spiffe://cluster.local/ns/shop/sa/db',
        'spiffe://cluster.local/ns/shop/sa/nobody',
        'spiffe://elsewhere/ns/shop/sa/web',
      ]) {
        await assert.rejects(subject.fetch(context, fixture, token, identity), identity);
      }
      await subject.fetch(context, fixture, token, WEB);
    },
  },
  {
    name: 'is refused without a proof of who it is',
    run: async (context, subject) => {
      const { fixture, token } = await open(context);
      for (const wrong of [undefined, 'a.b.c']) await assert.rejects(subject.fetch(context, fixture, wrong, WEB));
      await subject.fetch(context, fixture, token, WEB);
    },
  },
];

/** One call over an HTTP/2 connection of its own. */
export const RAW_CA_SUBJECT: CaSubject = {
  name: 'a raw client',
  fetch: async (context, fixture, token, identity) => {
    const session = openRawSession(context, fixture.control.port, fixture.rootsPem());
    const call = new RawCall(session, '/istio.v1.auth.IstioCertificateService/CreateCertificate', token).read();
    // Struct{1 fields: map entry{1 key, 2 Value{3 string}}}
    const metadata = field(1, Buffer.concat([field(1, 'ImpersonatedIdentity'), field(2, field(3, identity))]));
    call.send(Buffer.concat([field(1, makeRequest().csr), numberField(3, 3600), field(4, metadata)]));
    call.end();
    const { 'grpc-status': status } = await call.ended;
    session.close();
    if (status !== '0') throw new Error(`status ${status}`);
    const chain = textsOf(parseFields(await call.next()), 1);
    return { leafPem: chain[0] ?? '', chainPem: chain.slice(0, -1).join(''), rootsPem: chain.at(-1) ?? '' };
  },
};

export const AGENT_CA_SUBJECT: CaSubject = {
  name: 'the client of the agent',
  fetch: async (_context, fixture, token, identity) => {
    const tokenFile = join(fixture.stateDir, 'conformance-token');
    if (token !== undefined) writeFileSync(tokenFile, token, { mode: 0o600 });
    const endpoint = {
      address: `127.0.0.1:${fixture.control.port}`,
      rootCaFile: join(fixture.stateDir, 'root-cert.pem'),
      ...(token === undefined ? {} : { tokenFile }),
    };
    const client = new CaClient({ endpoint, secretTtlMs: 3_600_000, impersonate: true });
    try {
      assert.ok(isSpiffeId(identity));
      const { certificateChainPem, rootsPem } = await client.fetch(identity, AbortSignal.timeout(5000));
      return { leafPem: certificateChainPem, chainPem: certificateChainPem, rootsPem };
    } finally {
      client.close();
      rmSync(tokenFile, { force: true });
    }
  },
};
