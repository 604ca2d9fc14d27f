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

export interface SourceWorld {
  readonly source: Source;
  put(object: SmallObject): void;
  /** Makes the stored object invalid, so that it is still there but cannot be decoded. */
  spoil(name: string): void;
  remove(name: string): void;
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

  /** `name=label` of what is known now, sorted. */
  view(): string {
    return [...this.objects.values()]
      .map(({ meta }) => `${meta.name}=${meta.labels.get('l') ?? ''}`)
      .sort()
      .join(' ');
  }

  async sees(view: string): Promise<void> {
    await eventually(`the sink sees ${JSON.stringify(view)}`, () => assert.equal(this.view(), view));
  }
}

/** Starts a source with a recording sink and waits for its first picture. */
export async function startSource(context: TestContext, source: Source): Promise<RecordingSink> {
  const sink = new RecordingSink();
  context.after(() => source.close());
  await source.start(sink);
  await eventually('the source is synced', () => assert.equal(sink.syncs, 1));
  return sink;
}

export function sourceContract(name: string, open: (context: TestContext) => SourceWorld): void {
  const A = { name: 'a', label: '1' };
  const B = { name: 'b', label: '1' };

  test(`${name}: everything that exists is reported before it says that it is synced`, async (context) => {
    const world = open(context);
    world.put(A);
    world.put(B);
    const sink = await startSource(context, world.source);
    assert.equal(sink.view(), 'a=1 b=1');
  });

  test(`${name}: an empty world is synced too`, async (context) => {
    const sink = await startSource(context, open(context).source);
    assert.deepEqual(sink.changes, []);
  });

  test(`${name}: objects come, change and go`, async (context) => {
    const world = open(context);
    const sink = await startSource(context, world.source);
    world.put(A);
    await sink.sees('a=1');
    world.put({ ...A, label: '2' });
    world.put(B);
    await sink.sees('a=2 b=1');
    world.remove('a');
    await sink.sees('b=1');
    assert.equal(sink.syncs, 1);
  });

  test(`${name}: an object written again with equal content is no change`, async (context) => {
    const world = open(context);
    world.put(A);
    const sink = await startSource(context, world.source);
    const before = sink.changes.length;
    world.put(A);
    world.put(B);
    await sink.sees('a=1 b=1');
    const told = sink.changes.slice(before).flatMap((change) => change.upserted.map(objectKey));
    assert.deepEqual(told, ['Namespace//b']);
  });

  test(`${name}: a spoilt object keeps its last good version, is reported, and recovers`, async (context) => {
    const world = open(context);
    world.put(A);
    world.put(B);
    const sink = await startSource(context, world.source);
    world.spoil('a');
    world.put({ ...B, label: '2' });
    await sink.sees('a=1 b=2');
    await eventually('the problem is reported', () =>
      assert.deepEqual(
        sink.current.map(({ object }) => object),
        ['Namespace//a'],
      ),
    );
    world.put({ ...A, label: '3' });
    await sink.sees('a=3 b=2');
    assert.deepEqual(sink.current, []);
  });

  test(`${name}: nothing is reported after it was closed`, async (context) => {
    const world = open(context);
    const sink = await startSource(context, world.source);
    await world.source.close();
    world.put(A);
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(sink.changes, []);
  });
}
