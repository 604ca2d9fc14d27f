/**
 * AdmissionReview (admission.k8s.io/v1) in, AdmissionReview out. Pure and total: any value gives an answer or one kind of
 * error. Refused is what is wrong in itself; what may become right through other objects is a warning.
 *
 * Refused with a code of docs/ANALYSIS.md that says so. Never refused: deletions, an object that an operator is taking
 * apart (deletionTimestamp), and an update that leaves the spec as it is, so that finalizers and labels of an object from
 * before the webhook can still be changed.
 */
import { isDeepStrictEqual } from 'node:util';
import { type Decoder, decode, isRecord, object, oneOf, string, withDefault } from '../../core/decoder.ts';
import { AmbitError } from '../../core/errors.ts';
import { decodeObject, identify, type MeshObject } from '../objects/object.ts';
import { FINDING_TABLE } from '../validation/codes.ts';
import { unreadable } from '../validation/collect.ts';
import { type Finding, sentence } from '../validation/finding.ts';

/** What there is to say about an object in its surroundings. */
export type Judge = (object: MeshObject) => readonly Finding[];

export interface ReviewAnswer {
  readonly apiVersion: 'admission.k8s.io/v1';
  readonly kind: 'AdmissionReview';
  readonly response: {
    readonly uid: string;
    readonly allowed: boolean;
    readonly status?: { readonly code: number; readonly reason: string; readonly message: string };
    readonly warnings?: readonly string[];
  };
}

/** Findings named in a refusal; the rest is counted. */
const MAX_NAMED = 3;
/** Fields of an unreadable object that are looked at. */
const MAX_PROBLEMS = 20;
/** The API server cuts warnings that are more or longer in all. */
const MAX_WARNINGS = 8;
const MAX_WARNING_CHARACTERS = 500;
/** As Kubernetes writes UIDs; it is only echoed. */
const MAX_UID_CHARACTERS = 128;

const asIs: Decoder<unknown> = (value) => value ?? null;

const review = object(
  {
    apiVersion: oneOf('admission.k8s.io/v1'),
    kind: oneOf('AdmissionReview'),
    request: object(
      {
        uid: string,
        operation: oneOf('CREATE', 'UPDATE', 'DELETE', 'CONNECT'),
        namespace: withDefault(string, ''),
        name: withDefault(string, ''),
        subResource: withDefault(string, ''),
        object: asIs,
        oldObject: asIs,
      },
      'ignore',
    ),
  },
  'ignore',
);

/** Throws `DECODE` for what is no AdmissionReview. */
export function answerReview(body: unknown, judge: Judge): ReviewAnswer {
  const decoded = decode(review, body);
  if (!decoded.ok) {
    const [problem] = decoded.problems;
    throw new AmbitError('DECODE', `not an AdmissionReview: ${problem?.path.join('.') ?? ''} ${problem?.reason ?? ''}`);
  }
  const { request } = decoded.value;
  const { operation, subResource, object: value, oldObject } = request;
  if (request.uid.length > MAX_UID_CHARACTERS) throw new AmbitError('DECODE', 'the uid of the request is too long');
  if ((operation !== 'CREATE' && operation !== 'UPDATE') || subResource !== '' || !isRecord(value)) {
    return answer(request.uid, []);
  }
  const findings = judgeValue(named(value, request), judge);
  const harmless = isLeaving(value) || (operation === 'UPDATE' && isDeepStrictEqual(specOf(value), specOf(oldObject)));
  return answer(request.uid, findings, harmless);
}

/** Names that the API server has not written into the object yet. */
function named(value: Readonly<Record<string, unknown>>, request: { namespace: string; name: string }): unknown {
  const metadata = isRecord(value.metadata) ? value.metadata : {};
  const { generateName } = metadata;
  const name = metadata.name ?? (request.name || (typeof generateName === 'string' ? `${generateName}x` : undefined));
  return {
    ...value,
    metadata: { ...metadata, name, namespace: metadata.namespace ?? (request.namespace || undefined) },
  };
}

function judgeValue(value: unknown, judge: Judge): readonly Finding[] {
  const identity = identify(value);
  if (identity.kind !== 'known') return [];
  const decoded = decodeObject(identity.row, value);
  return decoded.ok ? judge(decoded.value) : unreadable(identity.key, decoded.problems.slice(0, MAX_PROBLEMS));
}

function answer(uid: string, findings: readonly Finding[], harmless = false): ReviewAnswer {
  const refusals = harmless
    ? []
    : findings.filter(({ code, severity }) => severity === 'error' && FINDING_TABLE[code].refused);
  const others = findings.filter((found) => !refusals.includes(found) && found.severity !== 'info');
  const warnings = others.slice(0, MAX_WARNINGS).map((found) => sentence(found).slice(0, MAX_WARNING_CHARACTERS));
  const response = {
    uid,
    allowed: refusals.length === 0,
    ...(refusals.length === 0 ? {} : { status: { code: 422, reason: 'Invalid', message: refusalText(refusals) } }),
    ...(warnings.length === 0 ? {} : { warnings }),
  };
  return { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response };
}

function refusalText(refusals: readonly Finding[]): string {
  const named = refusals.slice(0, MAX_NAMED).map(sentence).join('\n');
  const more = refusals.length - MAX_NAMED;
  return more > 0 ? `${named}\nand ${more} more; ambit analyze shows them all` : named;
}

function isLeaving({ metadata }: Readonly<Record<string, unknown>>): boolean {
  return isRecord(metadata) && metadata.deletionTimestamp !== undefined && metadata.deletionTimestamp !== null;
}

function specOf(value: unknown): unknown {
  return isRecord(value) ? value.spec : undefined;
}
