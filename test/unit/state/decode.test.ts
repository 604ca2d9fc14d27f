import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { MeshState } from '../../../agent/state/mesh-state.ts';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, type EncodedResource } from '../../../agent/state/resource.ts';
import { AuthorizationSchema, type MatchSchema } from '../../../api/gen/istio/security/authorization_pb.js';
import { AddressSchema, type ServiceSchema, type WorkloadSchema } from '../../../api/gen/istio/workload/workload_pb.js';
import { getWorkload, meshOf, workload } from '../../support/mesh-resources.ts';

type WorkloadFields = MessageInitShape<typeof WorkloadSchema>;
type ServiceFields = MessageInitShape<typeof ServiceSchema>;

/** Why the resource is refused, or undefined when it is taken. */
function refusal(typeUrl: string, name: string, bytes: Uint8Array): string | undefined {
  const state = new MeshState();
  const { errors, changed } = state.apply({ typeUrl, updated: [{ name, version: '1', bytes }], removed: [] });
  assert.equal(changed, errors.length === 0);
  return errors[0]?.reason;
}

function refusedWorkload(fields: WorkloadFields, name = 'uid-1'): string | undefined {
  const value = { uid: 'uid-1', name: 'w', namespace: 'default', ...fields };
  return refusal(
    ADDRESS_TYPE,
    name,
    toBinary(AddressSchema, create(AddressSchema, { type: { case: 'workload', value } })),
  );
}

function refusedService(fields: ServiceFields, name = 'default/a.example'): string | undefined {
  const value = { name: 'a', namespace: 'default', hostname: 'a.example', ...fields };
  return refusal(
    ADDRESS_TYPE,
    name,
    toBinary(AddressSchema, create(AddressSchema, { type: { case: 'service', value } })),
  );
}

function refusedPolicy(
  match: MessageInitShape<typeof MatchSchema>,
  fields: MessageInitShape<typeof AuthorizationSchema> = {},
) {
  const message = create(AuthorizationSchema, {
    name: 'p',
    namespace: 'default',
    groups: [{ rules: [{ matches: [match] }] }],
    ...fields,
  });
  return refusal(AUTHORIZATION_TYPE, 'default/p', toBinary(AuthorizationSchema, message));
}

/** A value no enumeration has; typed as any number, as it may come over the wire. */
const UNKNOWN: number = 99;
const V4 = Uint8Array.of(10, 0, 0, 1);

describe('a workload', () => {
  const accepted: [string, WorkloadFields][] = [
    ['with the least fields', {}],
    ['with an IPv4 and an IPv6 address', { addresses: [V4, new Uint8Array(16)] }],
    ['with a named target port', { services: { 'ns/host': { ports: [{ servicePort: 80, targetPort: 0 }] } } }],
    [
      'with a gateway by name',
      {
        waypoint: { destination: { case: 'hostname', value: { namespace: 'n', hostname: 'h' } }, hboneMtlsPort: 15008 },
      },
    ],
  ];
  accepted.push([
    'with a network gateway without port',
    { networkGateway: { destination: { case: 'address', value: { address: V4 } } } },
  ]);
  for (const [name, fields] of accepted)
    test(`${name} is taken`, () => assert.equal(refusedWorkload(fields), undefined));

  const refused: [string, WorkloadFields, RegExp][] = [
    ['without a namespace', { namespace: '' }, /namespace: is missing/],
    ['without a uid', { uid: '' }, /uid: is missing/],
    ['with an address of three bytes', { addresses: [Uint8Array.of(1, 2, 3)] }, /addresses: has 3 bytes/],
    ['with an address of no bytes', { addresses: [new Uint8Array()] }, /addresses: has 0 bytes/],
    ['with the old mutual TLS', { tunnelProtocol: 2 }, /tunnel_protocol/],
    ['with an unknown tunnel protocol', { tunnelProtocol: UNKNOWN }, /tunnel_protocol: has the unknown value 99/],
    ['with an unknown status', { status: UNKNOWN }, /status/],
    ['with an unknown network mode', { networkMode: UNKNOWN }, /network_mode/],
    ['with an unknown workload type', { workloadType: UNKNOWN }, /workload_type/],
    [
      'with an unknown application protocol',
      { applicationTunnel: { protocol: UNKNOWN } },
      /application_tunnel.protocol/,
    ],
    ['with an application port beyond 65535', { applicationTunnel: { port: 65536 } }, /application_tunnel.port/],
    ['with a waypoint without destination', { waypoint: { hboneMtlsPort: 15008 } }, /waypoint: has no destination/],
    [
      'with a waypoint without port',
      { waypoint: { destination: { case: 'address', value: { address: V4 } } } },
      /waypoint.hbone_mtls_port/,
    ],
    [
      'with a waypoint that is a block',
      { waypoint: { destination: { case: 'address', value: { address: V4, length: 8 } }, hboneMtlsPort: 1 } },
      /block/,
    ],
    [
      'with a gateway of a bad address',
      { networkGateway: { destination: { case: 'address', value: { address: new Uint8Array(5) } }, hboneMtlsPort: 1 } },
      /network_gateway/,
    ],
    ['with a service key without namespace', { services: { host: {} } }, /services/],
    [
      'with service port zero',
      { services: { 'ns/host': { ports: [{ servicePort: 0, targetPort: 1 }] } } },
      /service_port/,
    ],
    [
      'with a target port beyond 65535',
      { services: { 'ns/host': { ports: [{ servicePort: 80, targetPort: 70000 }] } } },
      /target_port/,
    ],
    ['whose names form no identity', { serviceAccount: 'a/b' }, /SPIFFE/],
    ['of a trust domain in capitals', { trustDomain: 'Cluster' }, /SPIFFE/],
    ['with a name beyond all measure', { name: 'x'.repeat(2000) }, /name: is longer/],
  ];
  for (const [name, fields, reason] of refused)
    test(`${name} is refused`, () => assert.match(refusedWorkload(fields) ?? '', reason));

  test('under another name than its uid is refused', () => assert.match(refusedWorkload({}, 'uid-2') ?? '', /uid-1/));

  test('gets the defaults of xDS for what is empty', () => {
    const state = meshOf(workload('w', { serviceAccount: '', namespace: 'n', uid: 'u' }));
    const { identity, clusterId, capacity, healthy, canonicalName, workloadType, locality } = getWorkload(state, 'u');
    assert.equal(identity, 'spiffe://cluster.local/ns/n/sa/default');
    assert.deepEqual(
      [clusterId, capacity, healthy, canonicalName, workloadType],
      ['Kubernetes', 1, true, '', 'deployment'],
    );
    assert.deepEqual(locality, { region: '', zone: '', subzone: '' });
  });

  test('with an IPv4-mapped address has the IPv4 address', () => {
    const state = meshOf(workload('w', { ips: ['::ffff:10.0.0.7'] }));
    assert.deepEqual(getWorkload(state, 'w').addresses, ['10.0.0.7']);
  });
});

describe('a service', () => {
  const refused: [string, ServiceFields, RegExp][] = [
    ['without a namespace', { namespace: '' }, /./],
    ['without a host name', { hostname: '' }, /./],
    ['with an address of five bytes', { addresses: [{ address: new Uint8Array(5) }] }, /addresses/],
    ['with a block longer than its address', { addresses: [{ address: V4, length: 33 }] }, /addresses/],
    ['with service port zero', { ports: [{ servicePort: 0 }] }, /service_port/],
    ['with a port beyond 65535', { ports: [{ servicePort: 65536 }] }, /service_port/],
    ['with an unknown load balancing mode', { loadBalancing: { mode: UNKNOWN } }, /load_balancing.mode/],
    ['with an unspecified scope', { loadBalancing: { routingPreference: [0] } }, /routing_preference/],
    ['with an unknown scope', { loadBalancing: { routingPreference: [UNKNOWN] } }, /routing_preference/],
    ['with an unknown health policy', { loadBalancing: { healthPolicy: UNKNOWN } }, /health_policy/],
    ['with unknown address families', { ipFamilies: UNKNOWN }, /ip_families/],
    ['with an unknown visibility, which must not become public', { visibility: UNKNOWN }, /visibility/],
    ['with a weighted waypoint that leads nowhere', { weightedWaypoints: [{ weight: 1 }] }, /weighted_waypoints/],
  ];
  for (const [name, fields, reason] of refused)
    test(`${name} is refused`, () => assert.match(refusedService(fields) ?? '', reason));

  test('that is refused leaves no trace', () => {
    const state = new MeshState();
    const message = create(AddressSchema, {
      type: { case: 'service', value: { name: 'a', namespace: 'n', hostname: 'h', visibility: UNKNOWN } },
    });
    state.apply({
      typeUrl: ADDRESS_TYPE,
      updated: [{ name: 'n/h', version: '1', bytes: toBinary(AddressSchema, message) }],
      removed: [],
    });
    assert.deepEqual([...state.stagedEndpoints()], []);
    assert.equal(state.generation, 0);
  });
});

describe('a policy', () => {
  const refused: [string, Parameters<typeof refusedPolicy>, RegExp][] = [
    ['with a string match without type', [{ principals: [{}] }], /without a known type/],
    ['with a negative string match without type', [{ notNamespaces: [{}] }], /without a known type/],
    ['with a block of five bytes', [{ sourceIps: [{ address: new Uint8Array(5), length: 8 }] }], /block/],
    ['with a block of no bytes', [{ notSourceIps: [{ address: new Uint8Array(), length: 0 }] }], /block/],
    ['with a prefix longer than the address', [{ destinationIps: [{ address: V4, length: 33 }] }], /block/],
    ['with a port beyond 65535, which must not wrap', [{ destinationPorts: [65536 + 80] }], /not a port/],
    ['with a negative port beyond 65535', [{ notDestinationPorts: [65536] }], /not a port/],
    ['with an unknown scope', [{}, { scope: UNKNOWN }], /scope/],
    ['with an unknown action', [{}, { action: UNKNOWN }], /action/],
    ['without a name', [{}, { name: '' }], /name: is missing/],
    ['without a namespace', [{}, { namespace: '' }], /namespace: is missing/],
  ];
  for (const [name, [match, fields], reason] of refused)
    test(`${name} is refused as a whole`, () => assert.match(refusedPolicy(match, fields) ?? '', reason));

  test('of which everything is known is taken', () =>
    assert.equal(refusedPolicy({ destinationPorts: [80] }), undefined));
});

describe('bytes', () => {
  test('of any kind are taken or refused, never more than that', () => {
    const state = new MeshState();
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.constantFrom(ADDRESS_TYPE, AUTHORIZATION_TYPE, 'other'),
        (bytes, typeUrl) => {
          const { accepted, errors } = state.apply({
            typeUrl,
            updated: [{ name: 'x', version: '', bytes }],
            removed: ['y'],
          });
          assert.equal(accepted + errors.length, 1);
        },
      ),
      { numRuns: 5000 },
    );
  });

  test('of a good resource with any of them changed are taken or refused', () => {
    const good: EncodedResource = workload('w', { ips: ['10.0.0.1'], services: { 'default/a.example': { 80: 8080 } } });
    fc.assert(
      fc.property(fc.nat(good.bytes.length - 1), fc.integer({ min: 0, max: 255 }), (position, value) => {
        const bytes = Uint8Array.from(good.bytes);
        bytes[position] = value;
        const result = new MeshState().apply({ typeUrl: ADDRESS_TYPE, updated: [{ ...good, bytes }], removed: [] });
        assert.equal(result.accepted + result.errors.length, 1);
      }),
      { numRuns: 3000 },
    );
  });

  test('of one bad resource do not keep the others of their batch out', () => {
    const state = new MeshState();
    const bad = { name: 'bad', version: '1', bytes: Uint8Array.of(255, 255) };
    const updated = [workload('a', { ips: ['10.0.0.1'] }), bad, workload('b', { ips: ['10.0.0.2'] })];
    const { accepted, errors, changed } = state.apply({ typeUrl: ADDRESS_TYPE, updated, removed: [] });
    assert.deepEqual([accepted, errors.map(({ name }) => name), changed], [2, ['bad'], true]);
    assert.equal(state.sizes.workloads, 2);
  });
});
