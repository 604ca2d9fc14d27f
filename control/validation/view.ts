/**
 * What the checks look at: the objects, the workloads they mean (pods, and pod templates where files hold no pods), the
 * NetworkPolicies, and how much the absence of an object says. Read only; lookups are computed once per view.
 */
import {
  DEFAULT_ELIGIBILITY,
  decideEligibility,
  type Eligibility,
  type EligibilitySettings,
} from '../../core/enrolment/eligibility.ts';
import type { Labels } from '../../core/enrolment/label-selector.ts';
import type { ObjectStore } from '../model/object-store.ts';
import { selects } from '../objects/metadata.ts';
import type { MeshObject, ObjectKind } from '../objects/object.ts';
import { isTerminal } from '../objects/pod.ts';
import type { Service } from '../objects/service.ts';
import { appliesTo, type ScopedPolicy } from '../policy/scope.ts';
import type { NetworkPolicy } from './network-policy.ts';

/** The lookups of the object store that checks use. */
export type MeshObjects = Pick<ObjectStore, 'find' | 'inNamespace' | 'all'>;

/** A pod, or what a controller makes pods of. */
export interface Workload {
  /** `Pod`, `Deployment`, ... */
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly annotations: ReadonlyMap<string, string>;
  readonly serviceAccount: string;
  readonly hostNetwork: boolean;
  /** Pods of one owner are alike: findings name them once. */
  readonly owner: string;
}

export interface AnalysisSettings {
  readonly rootNamespace: string;
  readonly trustDomain: string;
  readonly eligibility: EligibilitySettings;
}

export const DEFAULT_ANALYSIS_SETTINGS: AnalysisSettings = {
  rootNamespace: 'istio-system',
  trustDomain: 'cluster.local',
  eligibility: DEFAULT_ELIGIBILITY,
};

export interface ViewParts {
  readonly objects: MeshObjects;
  /** Pod templates; empty on a cluster, where there are pods. */
  readonly templates?: readonly Workload[];
  readonly networkPolicies?: readonly NetworkPolicy[];
  /**
   * True: everything there is, so what is not in it does not exist (a cluster). False (files): of a kind of which there is
   * no object at all, absence says nothing.
   */
  readonly complete: boolean;
  readonly settings?: AnalysisSettings;
  /** Kinds that could not be read: absence says nothing. */
  readonly unknownKinds?: ReadonlySet<string>;
  /** Most workloads that are looked at; the rest counts as not known. Absent: all. */
  readonly maxWorkloads?: number;
}

export class AnalysisView {
  readonly objects: MeshObjects;
  readonly networkPolicies: readonly NetworkPolicy[];
  readonly complete: boolean;
  readonly settings: AnalysisSettings;
  readonly #templates: readonly Workload[];
  readonly #workloads = new Map<string, readonly Workload[]>();
  readonly #labels = new Map<string, Labels>();
  readonly #enrolled = new Map<Workload, boolean>();
  readonly #unknownKinds: ReadonlySet<string>;
  #workloadsLeft: number;

  constructor({ objects, templates, networkPolicies, complete, settings, unknownKinds, maxWorkloads }: ViewParts) {
    this.objects = objects;
    this.#templates = templates ?? [];
    this.networkPolicies = networkPolicies ?? [];
    this.complete = complete;
    this.settings = settings ?? DEFAULT_ANALYSIS_SETTINGS;
    this.#unknownKinds = unknownKinds ?? new Set();
    this.#workloadsLeft = maxWorkloads ?? Number.POSITIVE_INFINITY;
  }

  /** True when an object of the kind that is not here does not exist. */
  knows(kind: ObjectKind): boolean {
    if (this.#unknownKinds.has(kind)) return false;
    return this.complete || this.objects.all(kind)[Symbol.iterator]().next().done !== true;
  }

  /** True when a workload that was not found does not exist; ask after looking. */
  get knowsWorkloads(): boolean {
    return this.#workloadsLeft > 0 && (this.#templates.length > 0 || this.knows('Pod'));
  }

  /** Workloads of a namespace that run or will. */
  workloadsIn(namespace: string): readonly Workload[] {
    const known = this.#workloads.get(namespace);
    if (known !== undefined) return known;
    const found: Workload[] = this.#templates.filter((template) => template.namespace === namespace);
    for (const pod of this.objects.inNamespace('Pod', namespace)) {
      if (isTerminal(pod)) continue;
      if (this.#workloadsLeft <= 0) break;
      this.#workloadsLeft--;
      const { name, labels, annotations, owner } = pod.meta;
      found.push({
        kind: 'Pod',
        namespace,
        name,
        labels,
        annotations,
        serviceAccount: pod.serviceAccount,
        hostNetwork: pod.hostNetwork,
        owner: owner === undefined ? `Pod/${namespace}/${name}` : `${owner.kind}/${namespace}/${owner.name}`,
      });
    }
    this.#workloads.set(namespace, found);
    return found;
  }

  *allWorkloads(): Iterable<Workload> {
    const namespaces = new Set(this.#templates.map(({ namespace }) => namespace));
    for (const { meta } of this.objects.inNamespace('Namespace', '')) namespaces.add(meta.name);
    // Files need not show the namespace of a pod; a cluster does.
    if (!this.complete) for (const { meta } of this.objects.all('Pod')) namespaces.add(meta.namespace);
    for (const namespace of namespaces) yield* this.workloadsIn(namespace);
  }

  /** Those an AuthorizationPolicy is for. */
  *workloadsOf(policy: ScopedPolicy): Iterable<Workload> {
    const { rootNamespace } = this.settings;
    const { namespace } = policy.meta;
    const candidates = namespace === rootNamespace ? this.allWorkloads() : this.workloadsIn(namespace);
    for (const workload of candidates) if (appliesTo(policy, workload, rootNamespace)) yield workload;
  }

  /** Whether agents would take the workload into the mesh, by labels alone. */
  eligibility(workload: Workload): Eligibility {
    const labels = this.#namespaceLabels(workload.namespace);
    return decideEligibility(
      {
        namespace: workload.namespace,
        hostNetwork: workload.hostNetwork,
        labels: Object.fromEntries(workload.labels),
        annotations: Object.fromEntries(workload.annotations),
      },
      labels,
      this.settings.eligibility,
    );
  }

  #namespaceLabels(namespace: string): Labels {
    const known = this.#labels.get(namespace);
    if (known !== undefined) return known;
    const labels = Object.fromEntries(this.objects.find('Namespace', '', namespace)?.meta.labels ?? []);
    this.#labels.set(namespace, labels);
    return labels;
  }

  /** Files that do not show the namespace leave open what its label says: its workloads count as enrolled. */
  isEnrolled(workload: Workload): boolean {
    const known = this.#enrolled.get(workload);
    if (known !== undefined) return known;
    const verdict = this.eligibility(workload);
    const isOpen = !this.complete && this.objects.find('Namespace', '', workload.namespace) === undefined;
    const enrolled = verdict.kind === 'eligible' || (isOpen && verdict.reason === 'notSelected');
    this.#enrolled.set(workload, enrolled);
    return enrolled;
  }

  /** Services whose selector finds the workload. */
  *servicesOf(workload: Workload): Iterable<Service> {
    for (const service of this.objects.inNamespace('Service', workload.namespace)) {
      if (service.selector.size > 0 && selects(service.selector, workload.labels)) yield service;
    }
  }
}

/** Objects of a kind, as checks take them. */
export type ObjectOf<K extends ObjectKind> = Extract<MeshObject, { kind: K }>;
