/** core/grpc.ts against grpc-js itself: a unary and a streaming method from the generated descriptors, plain loopback. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageShape } from '@bufbuild/protobuf';
import {
  ChannelCredentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import {
  AggregatedDiscoveryService,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import {
  type IstioCertificateRequestSchema,
  IstioCertificateResponseSchema,
  IstioCertificateService,
} from '../../api/gen/istio/v1/auth/ca_pb.js';
import { callUnary, methodDefinition, openBidiStream, openClient } from '../../core/grpc.ts';

type CertificateRequest = MessageShape<typeof IstioCertificateRequestSchema>;
type CertificateResponse = MessageShape<typeof IstioCertificateResponseSchema>;

async function withServer(run: (address: string) => Promise<void>): Promise<void> {
  const server = new Server();
  server.addService(
    { createCertificate: methodDefinition(IstioCertificateService.method.createCertificate) },
    {
      createCertificate(
        call: ServerUnaryCall<CertificateRequest, CertificateResponse>,
        answer: sendUnaryData<CertificateResponse>,
      ) {
        if (call.request.csr === '') return answer({ code: status.INVALID_ARGUMENT, details: 'no CSR' });
        const { metadata } = call.request;
        answer(
          null,
          create(IstioCertificateResponseSchema, { certChain: [call.request.csr, JSON.stringify(metadata)] }),
        );
      },
    },
  );
  server.addService(
    { deltaAggregatedResources: methodDefinition(AggregatedDiscoveryService.method.deltaAggregatedResources) },
    {
      deltaAggregatedResources(call: ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>) {
        call.on('data', (request: DeltaDiscoveryRequest) => {
          call.write(create(DeltaDiscoveryResponseSchema, { typeUrl: request.typeUrl, nonce: 'n1' }));
        });
        call.on('end', () => call.end());
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  try {
    await run(`127.0.0.1:${port}`);
  } finally {
    server.forceShutdown();
  }
}

test('a unary call carries the message both ways and a refusal keeps its status', () =>
  withServer(async (address) => {
    const client = openClient(address, ChannelCredentials.createInsecure());
    const method = IstioCertificateService.method.createCertificate;
    const request = { csr: 'x', metadata: { ImpersonatedIdentity: 'spiffe://a/ns/b/sa/c' } };
    const answer = await callUnary(client, method, request, new Metadata());
    assert.deepEqual(answer.certChain, ['x', '{"ImpersonatedIdentity":"spiffe://a/ns/b/sa/c"}']);
    await assert.rejects(callUnary(client, method, {}, new Metadata()), { code: status.INVALID_ARGUMENT });
    client.close();
  }));

test('a stream carries messages both ways and ends with OK', () =>
  withServer(async (address) => {
    const client = openClient(address, ChannelCredentials.createInsecure());
    const method = AggregatedDiscoveryService.method.deltaAggregatedResources;
    const stream = openBidiStream(client, method, new Metadata());
    const ended = new Promise<number>((resolve) => stream.on('status', (end) => resolve(end.code)));
    const first = new Promise<DeltaDiscoveryResponse>((resolve) => stream.on('data', resolve));
    stream.write({
      $typeName: 'envoy.service.discovery.v3.DeltaDiscoveryRequest',
      typeUrl: 't',
      resourceNamesSubscribe: [],
      resourceNamesUnsubscribe: [],
      initialResourceVersions: {},
      responseNonce: '',
    });
    assert.equal((await first).typeUrl, 't');
    stream.end();
    assert.equal(await ended, status.OK);
    client.close();
  }));
