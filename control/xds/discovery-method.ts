/**
 * The method as grpc-js knows it, with messages left as bytes: requests are read in slices, responses are shared between
 * clients (`discovery-request.ts`, `response.ts`).
 */
import type { Server, ServerDuplexStream } from '@grpc/grpc-js';
import { AggregatedDiscoveryService } from '../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { AmbitError } from '../../core/errors.ts';
import { MAX_DISCOVERY_REQUEST_BYTES } from '../../core/grpc.ts';
import type { Caller } from '../authentication.ts';
import type { DiscoveryService } from './discovery-service.ts';

type BytesStream = ServerDuplexStream<Buffer, Buffer>;

const same = (bytes: Buffer): Buffer => bytes;

function bounded(bytes: Buffer): Buffer {
  if (bytes.length > MAX_DISCOVERY_REQUEST_BYTES) {
    throw new AmbitError('DECODE', `longer than ${MAX_DISCOVERY_REQUEST_BYTES} bytes`);
  }
  return bytes;
}

/** Serves discovery on `server`. `callerOf` gives the caller of a call that passed authentication. */
export function addDiscovery(
  server: Server,
  discovery: DiscoveryService,
  callerOf: (call: BytesStream) => Caller,
): void {
  const { deltaAggregatedResources } = AggregatedDiscoveryService.method;
  const definition = {
    path: `/${deltaAggregatedResources.parent.typeName}/${deltaAggregatedResources.name}`,
    requestStream: true,
    responseStream: true,
    requestSerialize: same,
    requestDeserialize: bounded,
    responseSerialize: same,
    responseDeserialize: same,
  };
  server.addService(
    { deltaAggregatedResources: definition },
    { deltaAggregatedResources: (call: BytesStream) => discovery.serve(call, callerOf(call)) },
  );
}
