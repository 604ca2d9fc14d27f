/**
 * What every source of objects promises (files now, Kubernetes later), as one suite. An implementation brings a world in
 * which objects can be put, broken and taken away; the suite judges only what the sink is told.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type MeshObject, objectKey } from '../../control/objects/object.ts';
import type { ChangeSet, Source, SourceProblem, SourceSink } from '../../control/sources/source.ts';
import { eventually } from './eventually.ts';

/** A namespace with one label: the smallest object with content. */
export interface SmallObject {
  readonly name: string;
  readonly label: string;
}

/** What a world does may take its time; the suite waits. */
export interface SourceWorld {
  readonly source: Source;
  put(object: SmallObject): void | Promise<void>;
  /** Makes the stored object invalid, so that it is still there but cannot be decoded. */
  spoil(name: string): void | Promise<void>;
  remove(name: string): void | Promise<void>;
}

/** Records what a source says, as the state a receiver would have. */
export class RecordingSink implements SourceSink {
  readonly objects = new Map<string, MeshObject>();
  readonly changes: ChangeSet[] = [];
  current: readonly SourceProblem[] = [];
  syncs = 0;

  changed(change: ChangeSet): void {
    assert.ok(change.upserted.length + change.removed.length > 0, 'no empty change set');
    this.changes.push(change);
    for (const key of change.removed) assert.ok(this.objects.delete(key), `${key} was known`);
    for (const object of change.upserted) this.objects.set(objectKey(object), object);
  }

  synced(): void {
    this.syncs++;
  }

  problems(current: readonly SourceProblem[]): void {
    this.current = current;
  }

  /** `name=label` of what is known now of the small objects, sorted. A world may hold others. */
  view(): string {
    return [...this.objects.values()]
      .filter(isSmall)
      .map(({ meta }) => `${meta.name}=${meta.labels.get('l') ?? ''}`)
      .sort()
      .join(' ');
  }

  async sees(view: string): Promise<void> {
    await eventually(`the sink sees ${JSON.stringify(view)}`, () => assert.equal(this.view(), view));
  }
}

function isSmall(object: MeshObject): boolean {
  return object.kind === 'Namespace' && object.meta.labels.has('l');
}

/** Starts a source with a recording sink and waits for its first picture. */
export async function startSource(context: TestContext, source: Source): Promise<RecordingSink> {
  const sink = new RecordingSink();
  context.after(() => source.close());
  await source.start(sink);
  await eventually('the source is synced', () => assert.equal(sink.syncs, 1));
  return sink;
}

function objectsWithProblems(sink: RecordingSink): (string | undefined)[] {
  return sink.current.map(({ object }) => object).filter((object) => object !== undefined);
}

export function sourceContract(name: string, open: (context: TestContext) => SourceWorld | Promise<SourceWorld>): void {
  const A = { name: 'a', label: '1' };
  const B = { name: 'b', label: '1' };

  test(`${name}: everything that exists is reported before it says that it is synced`, async (context) => {
    const world = await open(context);
    await world.put(A);
    await world.put(B);
    const sink = await startSource(context, world.source);
    assert.equal(sink.view(), 'a=1 b=1');
  });

  test(`${name}: an empty world is synced too`, async (context) => {
    const sink = await startSource(context, (await open(context)).source);
    assert.equal(sink.view(), '');
  });

  test(`${name}: objects come, change and go`, async (context) => {
    const world = await open(context);
    const sink = await startSource(context, world.source);
    await world.put(A);
    await sink.sees('a=1');
    await world.put({ ...A, label: '2' });
    await world.put(B);
    await sink.sees('a=2 b=1');
    await world.remove('a');
    await sink.sees('b=1');
    assert.equal(sink.syncs, 1);
  });

  test(`${name}: an object written again with equal content is no change`, async (context) => {
    const world = await open(context);
    await world.put(A);
    const sink = await startSource(context, world.source);
    const before = sink.changes.length;
    await world.put(A);
    await world.put(B);
    await sink.sees('a=1 b=1');
    const told = sink.changes.slice(before).flatMap((change) => change.upserted.filter(isSmall).map(objectKey));
    assert.deepEqual(told, ['Namespace//b']);
  });

  test(`${name}: a spoilt object keeps its last good version, is reported, and recovers`, async (context) => {
    const world = await open(context);
    await world.put(A);
    await world.put(B);
    const sink = await startSource(context, world.source);
    await world.spoil('a');
    await world.put({ ...B, label: '2' });
    await sink.sees('a=1 b=2');
    await eventually('the problem is reported', () => assert.deepEqual(objectsWithProblems(sink), ['Namespace//a']));
    await world.put({ ...A, label: '3' });
    await sink.sees('a=3 b=2');
    await eventually('the problem is over', () => assert.deepEqual(objectsWithProblems(sink), []));
  });

  test(`${name}: nothing is reported after it was closed`, async (context) => {
    const world = await open(context);
    const sink = await startSource(context, world.source);
    await world.source.close();
    const before = sink.changes.length;
    await world.put(A);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(sink.changes.length, before);
  });
}
