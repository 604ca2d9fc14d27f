/**
 * MeshConfig: the settings of the mesh that an administrator may change while it runs, as YAML in the key `mesh` of the
 * ConfigMap `istio` in the root namespace. Fields that only other proxies read are ignored. Settings that were in force
 * stay in force while the text cannot be read.
 */
import { parse } from 'yaml';
import { type Decoder, list, mapped, object, oneOf, optional, string, withDefault } from '../../core/decoder.ts';
import { toAmbitError } from '../../core/errors.ts';
import { type LabelSelector, labelSelector } from './label-selector.ts';
import { metadata, type ObjectMeta } from './metadata.ts';

/** Name of the ConfigMap. */
export const MESH_CONFIG_NAME = 'istio';

export type Visibility = 'PUBLIC' | 'NAMESPACE' | 'NONE';

export interface ServiceEntryVisibility {
  readonly defaultVisibility: Visibility;
  /** The first whose rules all match counts. */
  readonly policies: readonly {
    readonly visibility: Visibility;
    readonly matchingRules: readonly { readonly namespaceSelector: LabelSelector | undefined }[];
  }[];
}

export interface ServiceScope {
  readonly scope: 'LOCAL' | 'GLOBAL';
  readonly servicesSelector: LabelSelector | undefined;
  readonly namespaceSelector: LabelSelector | undefined;
}

export interface MeshConfig {
  readonly kind: 'MeshConfig';
  readonly meta: ObjectMeta;
  /** Undefined where nothing is said. */
  readonly trustDomain: string | undefined;
  readonly trustDomainAliases: readonly string[];
  readonly rootNamespace: string | undefined;
  /** Undefined: every ServiceEntry is public. */
  readonly serviceEntryVisibility: ServiceEntryVisibility | undefined;
  readonly serviceScopes: readonly ServiceScope[];
  /** Namespaces that belong to the mesh: those that match any. Empty: all. */
  readonly discoverySelectors: readonly LabelSelector[];
  readonly outboundTrafficPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY' | undefined;
}

const visibility = oneOf('PUBLIC', 'NAMESPACE', 'NONE');
const rule = object({ namespaceSelector: optional(labelSelector) }, 'refuse');
const visibilityPolicy = object(
  { visibility: withDefault(visibility, 'PUBLIC'), matchingRules: withDefault(list(rule), []) },
  'refuse',
);
const serviceEntryVisibility: Decoder<ServiceEntryVisibility> = object(
  { defaultVisibility: withDefault(visibility, 'PUBLIC'), policies: withDefault(list(visibilityPolicy), []) },
  'ignore',
);

const serviceScope = object(
  {
    scope: withDefault(oneOf('LOCAL', 'GLOBAL'), 'LOCAL'),
    servicesSelector: optional(labelSelector),
    namespaceSelector: optional(labelSelector),
  },
  'refuse',
);

const mesh = object(
  {
    trustDomain: optional(string),
    trustDomainAliases: withDefault(list(string), []),
    rootNamespace: optional(string),
    serviceEntryVisibility: optional(serviceEntryVisibility),
    serviceScopeConfigs: withDefault(list(serviceScope), []),
    discoverySelectors: withDefault(list(labelSelector), []),
    outboundTrafficPolicy: optional(object({ mode: optional(string) }, 'ignore')),
  },
  'ignore',
);

export const meshConfig: Decoder<MeshConfig> = mapped(
  object(
    { metadata: metadata('namespaced'), data: optional(object({ mesh: withDefault(string, '') }, 'ignore')) },
    'ignore',
  ),
  ({ metadata: meta, data }, path, report) => {
    let value: unknown;
    try {
      value = parse(data?.mesh ?? '', { maxAliasCount: 100, logLevel: 'error' }) ?? {};
    } catch (thrown) {
      report([...path, 'data', 'mesh'], `is not YAML: ${toAmbitError(thrown, 'INVALID_OBJECT').message}`);
    }
    const settings = mesh(value ?? {}, [...path, 'data', 'mesh'], report);
    const mode = settings?.outboundTrafficPolicy?.mode;
    // Where nothing was decoded, what is wrong was reported and the value is not used.
    return {
      kind: 'MeshConfig',
      meta,
      trustDomain: settings?.trustDomain,
      trustDomainAliases: settings?.trustDomainAliases ?? [],
      rootNamespace: settings?.rootNamespace,
      serviceEntryVisibility: settings?.serviceEntryVisibility,
      serviceScopes: settings?.serviceScopeConfigs ?? [],
      discoverySelectors: settings?.discoverySelectors ?? [],
      outboundTrafficPolicy: mode === 'ALLOW_ANY' || mode === 'REGISTRY_ONLY' ? mode : undefined,
    };
  },
);
