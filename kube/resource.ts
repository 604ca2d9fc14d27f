/**
 * The resources of the Kubernetes API that Ambit touches, and how their URL paths are formed. A resource is what a URL
 * names (group, version, plural); the kind is what stands in an object.
 */
export interface Resource {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

function row(group: string, version: string, plural: string, kind: string, scope: 'namespaced' | 'cluster'): Resource {
  return { group, version, plural, kind, namespaced: scope === 'namespaced' };
}

/** Every resource that is read or written, by kind. */
export const RESOURCES = {
  Pod: row('', 'v1', 'pods', 'Pod', 'namespaced'),
  Service: row('', 'v1', 'services', 'Service', 'namespaced'),
  Namespace: row('', 'v1', 'namespaces', 'Namespace', 'cluster'),
  Node: row('', 'v1', 'nodes', 'Node', 'cluster'),
  ServiceAccount: row('', 'v1', 'serviceaccounts', 'ServiceAccount', 'namespaced'),
  ConfigMap: row('', 'v1', 'configmaps', 'ConfigMap', 'namespaced'),
  Secret: row('', 'v1', 'secrets', 'Secret', 'namespaced'),
  Event: row('events.k8s.io', 'v1', 'events', 'Event', 'namespaced'),
  Deployment: row('apps', 'v1', 'deployments', 'Deployment', 'namespaced'),
  DaemonSet: row('apps', 'v1', 'daemonsets', 'DaemonSet', 'namespaced'),
  EndpointSlice: row('discovery.k8s.io', 'v1', 'endpointslices', 'EndpointSlice', 'namespaced'),
  NetworkPolicy: row('networking.k8s.io', 'v1', 'networkpolicies', 'NetworkPolicy', 'namespaced'),
  Lease: row('coordination.k8s.io', 'v1', 'leases', 'Lease', 'namespaced'),
  TokenReview: row('authentication.k8s.io', 'v1', 'tokenreviews', 'TokenReview', 'cluster'),
  SelfSubjectReview: row('authentication.k8s.io', 'v1', 'selfsubjectreviews', 'SelfSubjectReview', 'cluster'),
  SubjectAccessReview: row('authorization.k8s.io', 'v1', 'subjectaccessreviews', 'SubjectAccessReview', 'cluster'),
  SelfSubjectAccessReview: row(
    'authorization.k8s.io',
    'v1',
    'selfsubjectaccessreviews',
    'SelfSubjectAccessReview',
    'cluster',
  ),
  ClusterTrustBundle: row('certificates.k8s.io', 'v1beta1', 'clustertrustbundles', 'ClusterTrustBundle', 'cluster'),
  ValidatingWebhookConfiguration: row(
    'admissionregistration.k8s.io',
    'v1',
    'validatingwebhookconfigurations',
    'ValidatingWebhookConfiguration',
    'cluster',
  ),
  CustomResourceDefinition: row(
    'apiextensions.k8s.io',
    'v1',
    'customresourcedefinitions',
    'CustomResourceDefinition',
    'cluster',
  ),
  ClusterRole: row('rbac.authorization.k8s.io', 'v1', 'clusterroles', 'ClusterRole', 'cluster'),
  ClusterRoleBinding: row('rbac.authorization.k8s.io', 'v1', 'clusterrolebindings', 'ClusterRoleBinding', 'cluster'),
  Role: row('rbac.authorization.k8s.io', 'v1', 'roles', 'Role', 'namespaced'),
  RoleBinding: row('rbac.authorization.k8s.io', 'v1', 'rolebindings', 'RoleBinding', 'namespaced'),
  Gateway: row('gateway.networking.k8s.io', 'v1', 'gateways', 'Gateway', 'namespaced'),
  GatewayClass: row('gateway.networking.k8s.io', 'v1', 'gatewayclasses', 'GatewayClass', 'cluster'),
  AuthorizationPolicy: row('security.istio.io', 'v1', 'authorizationpolicies', 'AuthorizationPolicy', 'namespaced'),
  PeerAuthentication: row('security.istio.io', 'v1', 'peerauthentications', 'PeerAuthentication', 'namespaced'),
  ServiceEntry: row('networking.istio.io', 'v1', 'serviceentries', 'ServiceEntry', 'namespaced'),
  WorkloadEntry: row('networking.istio.io', 'v1', 'workloadentries', 'WorkloadEntry', 'namespaced'),
} as const satisfies Record<string, Resource>;

/** As it stands in an object: `v1`, `apps/v1`. */
export function apiVersionOf(resource: Resource): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
}

/** As people write it: `pods`, `gateways.gateway.networking.k8s.io`. */
export function resourceName(resource: Resource): string {
  return resource.group === '' ? resource.plural : `${resource.plural}.${resource.group}`;
}

/** Path of a collection. An empty namespace of a namespaced resource means all namespaces. */
export function collectionPath(resource: Resource, namespace = ''): string {
  const root = resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const within = resource.namespaced && namespace !== '' ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `${root}${within}/${resource.plural}`;
}

/** Path of one object, or of a subresource of it (`status`, `token`). */
export function objectPath(resource: Resource, namespace: string, name: string, subresource?: string): string {
  const path = `${collectionPath(resource, namespace)}/${encodeURIComponent(name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}
