/**
 * The numbers on the wire are Istio's and Envoy's: this table was written from their protocol facts, not from our
 * .proto files, so that an edit there that breaks a stranger's agent or control plane fails here.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DescEnum, type DescMessage, ScalarType } from '@bufbuild/protobuf';
import { NodeSchema } from '../../../api/gen/envoy/config/core/v3/base_pb.js';
import {
  AggregatedDiscoveryService,
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  ResourceSchema,
} from '../../../api/gen/envoy/service/discovery/v3/discovery_pb.js';
import { StatusSchema } from '../../../api/gen/google/rpc/status_pb.js';
import * as security from '../../../api/gen/istio/security/authorization_pb.js';
import {
  IstioCertificateRequestSchema,
  IstioCertificateResponseSchema,
  IstioCertificateService,
} from '../../../api/gen/istio/v1/auth/ca_pb.js';
import * as workload from '../../../api/gen/istio/workload/workload_pb.js';
import { methodDefinition } from '../../../core/grpc.ts';

const MESSAGES: [schema: DescMessage, name: string, fields: string][] = [
  [workload.AddressSchema, 'istio.workload.Address', 'workload=1 service=2'],
  [
    workload.WorkloadSchema,
    'istio.workload.Workload',
    'name=1 namespace=2 addresses=3 network=4 tunnel_protocol=5 trust_domain=6 service_account=7 waypoint=8 node=9 canonical_name=10 canonical_revision=11 workload_type=12 workload_name=13 native_tunnel=14 authorization_policies=16 status=17 cluster_id=18 network_gateway=19 uid=20 hostname=21 services=22 application_tunnel=23 locality=24 network_mode=25 extensions=26 capacity=27',
  ],
  [
    workload.ServiceSchema,
    'istio.workload.Service',
    'name=1 namespace=2 hostname=3 addresses=4 ports=5 subject_alt_names=6 waypoint=7 load_balancing=8 ip_families=9 extensions=10 canonical=11 ingress_use_waypoint=12 weighted_waypoints=13 visibility=14',
  ],
  [workload.NetworkAddressSchema, 'istio.workload.NetworkAddress', 'network=1 address=2 length=3'],
  [workload.GatewayAddressSchema, 'istio.workload.GatewayAddress', 'hostname=1 address=2 hbone_mtls_port=3'],
  [workload.NamespacedHostnameSchema, 'istio.workload.NamespacedHostname', 'namespace=1 hostname=2'],
  [workload.PortSchema, 'istio.workload.Port', 'service_port=1 target_port=2 app_protocol=3'],
  [workload.PortListSchema, 'istio.workload.PortList', 'ports=1'],
  [workload.LoadBalancingSchema, 'istio.workload.LoadBalancing', 'routing_preference=1 mode=2 health_policy=3'],
  [workload.WeightedWaypointSchema, 'istio.workload.WeightedWaypoint', 'destination=1 weight=2'],
  [workload.ApplicationTunnelSchema, 'istio.workload.ApplicationTunnel', 'protocol=1 port=2'],
  [workload.LocalitySchema, 'istio.workload.Locality', 'region=1 zone=2 subzone=3'],
  [
    security.AuthorizationSchema,
    'istio.security.Authorization',
    'name=1 namespace=2 scope=3 action=4 groups=5 dry_run=6 extensions=7',
  ],
  [security.GroupSchema, 'istio.security.Group', 'rules=1'],
  [security.RulesSchema, 'istio.security.Rules', 'matches=2'],
  [
    security.MatchSchema,
    'istio.security.Match',
    'namespaces=1 not_namespaces=2 principals=3 not_principals=4 source_ips=5 not_source_ips=6 destination_ips=7 not_destination_ips=8 destination_ports=9 not_destination_ports=10 service_accounts=11 not_service_accounts=12 extensions=13',
  ],
  [security.AddressSchema, 'istio.security.Address', 'address=1 length=2'],
  [security.StringMatchSchema, 'istio.security.StringMatch', 'exact=1 prefix=2 suffix=3 presence=4'],
  [security.ServiceAccountMatchSchema, 'istio.security.ServiceAccountMatch', 'namespace=1 serviceAccount=2'],
  [IstioCertificateRequestSchema, 'istio.v1.auth.IstioCertificateRequest', 'csr=1 validity_duration=3 metadata=4'],
  [IstioCertificateResponseSchema, 'istio.v1.auth.IstioCertificateResponse', 'cert_chain=1'],
  [NodeSchema, 'envoy.config.core.v3.Node', 'id=1 cluster=2 metadata=3'],
  [
    DeltaDiscoveryRequestSchema,
    'envoy.service.discovery.v3.DeltaDiscoveryRequest',
    'node=1 type_url=2 resource_names_subscribe=3 resource_names_unsubscribe=4 initial_resource_versions=5 response_nonce=6 error_detail=7',
  ],
  [
    DeltaDiscoveryResponseSchema,
    'envoy.service.discovery.v3.DeltaDiscoveryResponse',
    'system_version_info=1 resources=2 type_url=4 nonce=5 removed_resources=6 control_plane=7',
  ],
  [ResourceSchema, 'envoy.service.discovery.v3.Resource', 'version=1 resource=2 name=3 aliases=4'],
  [StatusSchema, 'google.rpc.Status', 'code=1 message=2 details=3'],
];
for (const [schema, name, fields] of MESSAGES) {
  test(`${name} has its name and numbers`, () => {
    assert.equal(schema.typeName, name);
    const actual = [...schema.fields]
      .sort((a, b) => a.number - b.number)
      .map((field) => `${field.name}=${field.number}`);
    assert.equal(actual.join(' '), fields);
  });
}

const ENUMS: [schema: DescEnum, values: string][] = [
  [workload.TunnelProtocolSchema, 'NONE=0 HBONE=1 LEGACY_ISTIO_MTLS=2'],
  [workload.WorkloadStatusSchema, 'HEALTHY=0 UNHEALTHY=1'],
  [workload.WorkloadTypeSchema, 'DEPLOYMENT=0 CRONJOB=1 POD=2 JOB=3'],
  [workload.NetworkModeSchema, 'STANDARD=0 HOST_NETWORK=1'],
  [workload.IPFamiliesSchema, 'AUTOMATIC=0 IPV4_ONLY=1 IPV6_ONLY=2 DUAL=3'],
  [workload.AppProtocolSchema, 'UNKNOWN=0 HTTP11=1 HTTP2=2 GRPC=3 TCP=4 TLS=5'],
  [workload.ServiceVisibilitySchema, 'PUBLIC=0 NAMESPACE=1'],
  [workload.LoadBalancing_ScopeSchema, 'UNSPECIFIED_SCOPE=0 REGION=1 ZONE=2 SUBZONE=3 NODE=4 CLUSTER=5 NETWORK=6'],
  [workload.LoadBalancing_ModeSchema, 'UNSPECIFIED_MODE=0 STRICT=1 FAILOVER=2 PASSTHROUGH=3'],
  [workload.LoadBalancing_HealthPolicySchema, 'ONLY_HEALTHY=0 ALLOW_ALL=1'],
  [workload.ApplicationTunnel_ProtocolSchema, 'NONE=0 PROXY=1'],
  [security.ScopeSchema, 'GLOBAL=0 NAMESPACE=1 WORKLOAD_SELECTOR=2'],
  [security.ActionSchema, 'ALLOW=0 DENY=1'],
];
for (const [schema, values] of ENUMS) {
  test(`${schema.typeName} has its values`, () => {
    assert.equal(schema.values.map((value) => `${value.name}=${value.number}`).join(' '), values);
  });
}

test('addresses are bytes, the lifetime is a signed 64-bit number', () => {
  const scalar = (schema: DescMessage, name: string): ScalarType | undefined =>
    schema.fields.find((field) => field.name === name)?.scalar;
  assert.equal(
    scalar(workload.WorkloadSchema, 'addresses') ?? listScalar(workload.WorkloadSchema, 'addresses'),
    ScalarType.BYTES,
  );
  assert.equal(scalar(workload.NetworkAddressSchema, 'address'), ScalarType.BYTES);
  assert.equal(scalar(IstioCertificateRequestSchema, 'validity_duration'), ScalarType.INT64);
});

test('methods have the paths that clients call', () => {
  assert.equal(
    methodDefinition(IstioCertificateService.method.createCertificate).path,
    '/istio.v1.auth.IstioCertificateService/CreateCertificate',
  );
  assert.equal(
    methodDefinition(AggregatedDiscoveryService.method.deltaAggregatedResources).path,
    '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
  );
});

function listScalar(schema: DescMessage, name: string): ScalarType | undefined {
  const field = schema.fields.find((candidate) => candidate.name === name);
  return field?.fieldKind === 'list' && field.listKind === 'scalar' ? field.scalar : undefined;
}
