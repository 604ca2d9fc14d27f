/**
 * The Kubernetes API for the rest of Ambit: one server, one credential, objects as plain values.
 *
 * Every failure is a KubernetesApiError (`api-error.ts` tells kinds apart). Calls have a time limit, answers a size limit,
 * lists come in pages. The credential is read again when its files change; TLS is always verified.
 */
import type { Duplex } from 'node:stream';
import { isNotFound, KubernetesApiError } from './api-error.ts';
import type { Credential } from './credential.ts';
import { findInClusterCredential } from './in-cluster.ts';
import { kubeconfigFiles, openKubeconfig } from './kubeconfig.ts';
import { type KubeObject, type ObjectPage, requireObject, requirePage } from './object.ts';
import { collectionPath, objectPath, type Resource, resourceName } from './resource.ts';
import { type HttpCall, Transport } from './transport.ts';
import { readWatch, type WatchEvent } from './watch.ts';

export interface ClientOptions {
  /** Path. Absent: the credential of the pod, else KUBECONFIG, else ~/.kube/config. */
  readonly kubeconfig?: string | undefined;
  /** Context of the kubeconfig. Absent: the current one. */
  readonly context?: string | undefined;
  /** Who asks, for the audit log of the server: `ambit-control/1.2.3`. */
  readonly userAgent: string;
}

export interface Selection {
  /** Absent or empty: all namespaces. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
}

export interface Preconditions {
  readonly uid?: string;
  readonly resourceVersion?: string;
}

/** What every call takes besides what it is about. */
export interface CallOptions {
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** As in `status`. Only for writes. */
  readonly subresource?: string | undefined;
}

export interface ApplyOptions extends CallOptions {
  readonly fieldManager: string;
  /** Take fields over from other managers. */
  readonly force: boolean;
}

export interface WatchOptions extends Selection {
  /** Events after this version are sent. */
  readonly resourceVersion: string;
  /** After this the server ends the watch. */
  readonly timeoutSeconds: number;
  /** The watch is cut after this silence. */
  readonly silenceMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Called when the server accepted the watch. */
  onOpen?(): void;
  onEvent(event: WatchEvent): void;
}

/** Objects per page of a list. */
export const PAGE_SIZE = 250;
/** A list beyond this is refused: use a Reflector, which keeps only what is needed of each object. */
const MAX_LISTED = 100_000;

export class KubeClient {
  readonly #transport: Transport;
  readonly #credential: Credential;

  constructor(credential: Credential, userAgent: string) {
    this.#credential = credential;
    this.#transport = new Transport(credential, userAgent);
  }

  /** Reads configuration, connects to nothing. Throws CONFIGURATION. */
  static open(options: ClientOptions): KubeClient {
    const inCluster =
      options.kubeconfig === undefined && options.context === undefined ? findInClusterCredential() : undefined;
    const credential = inCluster ?? openKubeconfig(kubeconfigFiles(options.kubeconfig), options.context);
    return new KubeClient(credential, options.userAgent);
  }

  /** URL of the API server. */
  get server(): string {
    return this.#credential.server;
  }

  /** Any call; the JSON of the answer. */
  request(call: HttpCall): Promise<unknown> {
    return this.#transport.call(call);
  }

  /** Any call; the answer as it is, for logs of pods (`accept` of the call: what is wanted). */
  requestText(call: HttpCall): Promise<string> {
    return this.#transport.callText(call);
  }

  async get(resource: Resource, namespace: string, name: string, options: CallOptions = {}): Promise<KubeObject> {
    const path = objectPath(resource, namespace, name);
    return requireObject(`GET ${path}`, await this.request({ method: 'GET', path, ...limitsOf(options) }));
  }

  /** A WebSocket of `protocol` instead of an answer; the caller owns the socket. See port-forward.ts. */
  upgrade(call: HttpCall, protocol: string): Promise<{ readonly socket: Duplex; readonly head: Buffer }> {
    return this.#transport.upgrade(call, protocol);
  }

  /** Undefined when there is no such object. */
  async find(
    resource: Resource,
    namespace: string,
    name: string,
    options: CallOptions = {},
  ): Promise<KubeObject | undefined> {
    try {
      return await this.get(resource, namespace, name, options);
    } catch (thrown) {
      if (isNotFound(thrown)) return undefined;
      throw thrown;
    }
  }

  /** All objects of a selection and the version of the list, in as many pages as it takes. */
  async list(resource: Resource, selection: Selection = {}): Promise<ObjectPage> {
    const items: unknown[] = [];
    for (let continueToken = ''; ; ) {
      const page = await this.listPage(resource, selection, { limit: PAGE_SIZE, continueToken });
      items.push(...page.items);
      if (page.continueToken === '') return { ...page, items };
      if (items.length > MAX_LISTED) {
        const detail = `there are more than ${MAX_LISTED} ${resourceName(resource)}`;
        throw new KubernetesApiError(detail, { status: 0, reason: 'AnswerTooLarge' });
      }
      continueToken = page.continueToken;
    }
  }

  /** One page; an empty token begins. Throws `Expired` (410) when the token is too old. */
  async listPage(
    resource: Resource,
    selection: Selection,
    page: { readonly limit: number; readonly continueToken: string; readonly signal?: AbortSignal },
  ): Promise<ObjectPage> {
    const path = collectionPath(resource, selection.namespace);
    const query: Record<string, string> = { ...selectors(selection), limit: String(page.limit) };
    if (page.continueToken !== '') query.continue = page.continueToken;
    return requirePage(`GET ${path}`, await this.request({ method: 'GET', path, query, signal: page.signal }));
  }

  async create(resource: Resource, namespace: string, body: unknown, options: CallOptions = {}): Promise<KubeObject> {
    const path = collectionPath(resource, namespace);
    return requireObject(`POST ${path}`, await this.request({ method: 'POST', path, body, ...limitsOf(options) }));
  }

  /** Posts what is answered and not stored (TokenReview, SubjectAccessReview); any JSON comes back. */
  async review(resource: Resource, namespace: string, body: unknown, options: CallOptions = {}): Promise<unknown> {
    const path = collectionPath(resource, namespace);
    return await this.request({ method: 'POST', path, body, ...limitsOf(options) });
  }

  /** The resource version in the body makes it fail with a conflict when the object changed meanwhile. */
  async replace(
    resource: Resource,
    namespace: string,
    name: string,
    body: unknown,
    options: CallOptions = {},
  ): Promise<KubeObject> {
    const path = objectPath(resource, namespace, name, options.subresource);
    return requireObject(`PUT ${path}`, await this.request({ method: 'PUT', path, body, ...limitsOf(options) }));
  }

  async delete(
    resource: Resource,
    namespace: string,
    name: string,
    preconditions?: Preconditions,
    options: CallOptions = {},
  ): Promise<void> {
    const path = objectPath(resource, namespace, name);
    const body = preconditions === undefined ? undefined : { apiVersion: 'v1', kind: 'DeleteOptions', preconditions };
    await this.request({ method: 'DELETE', path, body, ...limitsOf(options) });
  }

  /** JSON merge patch (RFC 7396). A string is the subresource. */
  mergePatch(
    resource: Resource,
    namespace: string,
    name: string,
    body: unknown,
    options: CallOptions | string = {},
  ): Promise<KubeObject> {
    const chosen = typeof options === 'string' ? { subresource: options } : options;
    return this.#patch({ resource, namespace, name, body, type: 'application/merge-patch+json' }, {}, chosen);
  }

  /** JSON patch (RFC 6902). */
  jsonPatch(
    resource: Resource,
    namespace: string,
    name: string,
    body: readonly unknown[],
    options: CallOptions = {},
  ): Promise<KubeObject> {
    return this.#patch({ resource, namespace, name, body, type: 'application/json-patch+json' }, {}, options);
  }

  /** Server-side apply: the body must have apiVersion, kind and metadata.name. */
  apply(
    resource: Resource,
    namespace: string,
    name: string,
    body: unknown,
    options: ApplyOptions,
  ): Promise<KubeObject> {
    const query = { fieldManager: options.fieldManager, force: String(options.force) };
    return this.#patch({ resource, namespace, name, body, type: 'application/apply-patch+yaml' }, query, options);
  }

  /**
   * Follows a selection from a resource version on. Resolves when the server ended the watch; rejects with a
   * KubernetesApiError when it broke, 410 when the version is too old.
   */
  async watch(resource: Resource, options: WatchOptions): Promise<void> {
    const call: HttpCall = {
      method: 'GET',
      path: collectionPath(resource, options.namespace),
      query: {
        ...selectors(options),
        watch: 'true',
        allowWatchBookmarks: 'true',
        resourceVersion: options.resourceVersion,
        timeoutSeconds: String(options.timeoutSeconds),
      },
      signal: options.signal,
    };
    const response = await this.#transport.open(call);
    options.onOpen?.();
    const onEvent = (event: WatchEvent): void => options.onEvent(event);
    await readWatch(call, response, { onEvent, silenceMs: options.silenceMs, signal: options.signal });
  }

  /** Calls and watches that are under way fail. */
  close(): void {
    this.#transport.close();
  }

  async #patch(patch: Patch, query: Readonly<Record<string, string>>, options: CallOptions): Promise<KubeObject> {
    const { body, type: contentType } = patch;
    const path = objectPath(patch.resource, patch.namespace, patch.name, options.subresource);
    const call: HttpCall = { method: 'PATCH', path, query, body, contentType, ...limitsOf(options) };
    return requireObject(`PATCH ${path}`, await this.request(call));
  }
}

interface Patch {
  readonly resource: Resource;
  readonly namespace: string;
  readonly name: string;
  readonly body: unknown;
  readonly type: string;
}

function limitsOf({ timeoutMs, signal }: CallOptions): Pick<HttpCall, 'timeoutMs' | 'signal'> {
  return { timeoutMs, signal };
}

function selectors({ labelSelector, fieldSelector }: Selection): Record<string, string> {
  const query: Record<string, string> = {};
  if (labelSelector !== undefined && labelSelector !== '') query.labelSelector = labelSelector;
  if (fieldSelector !== undefined && fieldSelector !== '') query.fieldSelector = fieldSelector;
  return query;
}
