/**
 * The text of one YAML file -> objects and problems, with line numbers. Pure and total: any text gives a result.
 *
 * A file holds any number of documents, each an object or a List of objects. A document that cannot be read at all
 * hides which object it was; the caller then keeps everything it knew of this file (`incomplete`).
 */
import { type Document, isNode, LineCounter, type ParsedNode, parseAllDocuments } from 'yaml';
import { isRecord, type Path } from '../../core/decoder.ts';
import { toAmbitError } from '../../core/errors.ts';
import { decodeObject, identify, type MeshObject, type ObjectKey } from '../objects/object.ts';
import { standInFor } from '../objects/policy-stand-in.ts';

export interface TextProblem {
  readonly severity: 'error' | 'info';
  /** 1-based. */
  readonly line: number | undefined;
  readonly object: ObjectKey | undefined;
  readonly reason: string;
  /** For a policy that cannot be read; see `SourceProblem`. */
  readonly standIn?: MeshObject | undefined;
}

export interface ParsedText {
  readonly objects: ReadonlyMap<ObjectKey, MeshObject>;
  /** Objects that are there but wrong: their last good version stays in use. */
  readonly invalid: ReadonlySet<ObjectKey>;
  /** Some part of the text could not be attributed to an object. */
  readonly incomplete: boolean;
  readonly problems: readonly TextProblem[];
}

/** Problems of one file that are reported; the rest is counted. */
const MAX_PROBLEMS = 100;

export function parseYamlObjects(text: string): ParsedText {
  const reader = new YamlReader();
  reader.read(text);
  return reader;
}

class YamlReader implements ParsedText {
  readonly objects = new Map<ObjectKey, MeshObject>();
  readonly invalid = new Set<ObjectKey>();
  readonly problems: TextProblem[] = [];
  incomplete = false;
  readonly #lines = new LineCounter();

  read(text: string): void {
    const options = { lineCounter: this.#lines, prettyErrors: false, logLevel: 'silent', strict: true } as const;
    let documents: Document.Parsed<ParsedNode>[];
    try {
      const parsed = parseAllDocuments(text, options);
      documents = Array.isArray(parsed) ? parsed : [];
    } catch (thrown) {
      this.incomplete = true;
      this.#report('error', undefined, undefined, `not YAML: ${toAmbitError(thrown, 'INVALID_OBJECT').message}`);
      return;
    }
    for (const document of documents) this.#readDocument(document);
  }

  #readDocument(document: Document.Parsed<ParsedNode>): void {
    const [error] = document.errors;
    if (error !== undefined) {
      this.incomplete = true;
      this.#report('error', this.#lineAt(error.pos[0]), undefined, `not YAML: ${error.message}`);
      return;
    }
    let value: unknown;
    try {
      value = document.toJS({ maxAliasCount: 100 });
    } catch (thrown) {
      this.incomplete = true;
      this.#report('error', this.#line(document, []), undefined, toAmbitError(thrown, 'INVALID_OBJECT').message);
      return;
    }
    // Comments and separators alone make an empty document.
    if (value === null || value === undefined) return;
    if (isRecord(value) && value.apiVersion === 'v1' && value.kind === 'List' && Array.isArray(value.items)) {
      for (const [index, item] of value.items.entries()) this.#readObject(document, ['items', index], item);
    } else this.#readObject(document, [], value);
  }

  #readObject(document: Document.Parsed<ParsedNode>, at: Path, value: unknown): void {
    const identity = identify(value);
    if (identity.kind === 'unclear') {
      this.incomplete = true;
      this.#report('error', this.#line(document, at), undefined, `the document ${identity.reason}`);
      return;
    }
    if (identity.kind === 'foreign') {
      this.#report('info', this.#line(document, at), undefined, `${identity.what} is not a kind the mesh reads`);
      return;
    }
    const { key, row } = identity;
    if (this.objects.has(key) || this.invalid.has(key)) {
      this.#report('error', this.#line(document, at), key, 'the object is in this file twice; the first one counts');
      return;
    }
    const decoded = decodeObject(row, value);
    if (decoded.ok) {
      this.objects.set(key, decoded.value);
      return;
    }
    this.invalid.add(key);
    const [first] = decoded.problems;
    const standIn =
      first === undefined ? undefined : standInFor(row.kind, value, `${formatPath(first.path)} ${first.reason}`);
    for (const [index, { path, reason }] of decoded.problems.entries()) {
      const line = this.#line(document, [...at, ...path]);
      this.#report('error', line, key, `${formatPath(path)} ${reason}`, index === 0 ? standIn : undefined);
    }
  }

  /** The line of a field, or of the nearest thing around it that exists. */
  #line(document: Document.Parsed<ParsedNode>, path: Path): number | undefined {
    for (let length = path.length; length >= 0; length--) {
      const node: unknown = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range != null) return this.#lineAt(node.range[0]);
    }
    return undefined;
  }

  #lineAt(offset: number): number {
    return this.#lines.linePos(offset).line;
  }

  #report(
    severity: TextProblem['severity'],
    line: number | undefined,
    object: ObjectKey | undefined,
    reason: string,
    standIn?: MeshObject,
  ): void {
    // A stand-in is not for the reader alone: it is in force.
    if (this.problems.length >= MAX_PROBLEMS && standIn === undefined) return;
    this.problems.push({ severity, line, object, reason, ...(standIn === undefined ? {} : { standIn }) });
  }
}

/** `spec.rules[0].from`, as people write it. */
export function formatPath(path: Path): string {
  let text = '';
  for (const step of path) text += typeof step === 'number' ? `[${step}]` : text === '' ? step : `.${step}`;
  return text === '' ? 'the object' : text;
}
