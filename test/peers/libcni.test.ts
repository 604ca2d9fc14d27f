/**
 * What runtimes do with libcni beyond the life of one pod: garbage collection, STATUS, versions that are agreed on, and
 * configurations that are wrong. The life of a pod for every version is in libcni-versions.test.ts.
 */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { CNI_VERSIONS } from '../../cni-plugin/cni-version.ts';
import { pictureOf } from '../support/enrolment.ts';
import { buildLibcni, type LibcniAnswer, LibcniNode, sandboxId } from '../support/libcni.ts';

const programs = await buildLibcni();

function refusal({ error }: LibcniAnswer): number | undefined {
  return error?.code;
}

function succeeded(answer: LibcniAnswer): LibcniAnswer {
  if (answer.error !== undefined) assert.fail(answer.error.text);
  return answer;
}

/** Starts of our plugin. */
function ourStarts({ executions }: LibcniAnswer): readonly string[] {
  return (executions ?? []).filter(({ plugin }) => plugin === 'ambit-cni').map(({ command }) => command);
}

describe('a runtime', () => {
  it('collects pods the runtime no longer knows, with and without its own memory of them', async () => {
    await using node = await LibcniNode.create(programs);
    await node.startAgent();
    const list = node.chain('1.1.0');
    const [kept, stale, lost] = [node.emptyPod('kept'), node.emptyPod('stale'), node.emptyPod('lost')];
    for (const pod of [kept, stale, lost]) succeeded(await node.call('add', list, pod));
    const valid = [kept, lost].map((pod) => ({ containerID: sandboxId(pod), ifname: 'eth0' }));
    const collected = succeeded(await node.call('gc', list, undefined, { valid }));
    assert.deepEqual(ourStarts(collected), ['DEL', 'GC']);
    assert.doesNotMatch(pictureOf(stale), /table inet ambit/);
    for (const pod of [kept, lost]) assert.match(pictureOf(pod), /table inet ambit/);

    rmSync(join(node.world.runDirectory, 'cache'), { recursive: true });
    const second = succeeded(await node.call('gc', list, undefined, { valid: valid.slice(0, 1) }));
    assert.deepEqual(ourStarts(second), ['GC']);
    assert.doesNotMatch(pictureOf(lost), /table inet ambit/);
    assert.match(pictureOf(kept), /table inet ambit/);
  });

  it('may say that no pod is valid any more, and not by saying nothing', async () => {
    await using node = await LibcniNode.create(programs);
    await node.startAgent();
    const list = node.chain('1.1.0');
    const pod = node.emptyPod('web');
    const forget = (): void => rmSync(join(node.world.runDirectory, 'cache'), { recursive: true });
    succeeded(await node.call('add', list, pod));
    forget();
    const unsaid = await node.call('gc', list);
    assert.equal(refusal(unsaid), 7);
    assert.match(unsaid.error?.text ?? '', /cni.dev\/valid-attachments must be given/);
    assert.match(pictureOf(pod), /table inet ambit/);
    // A slice that was never filled is null in the JSON of Go, and means the same as an empty one.
    succeeded(await node.call('gc', { ...list, plugins: [node.entry({ 'cni.dev/valid-attachments': null })] }));
    assert.doesNotMatch(pictureOf(pod), /table inet ambit/);
  });

  it('may have an empty list of valid pods', async () => {
    await using node = await LibcniNode.create(programs);
    await node.startAgent();
    const list = node.chain('1.1.0');
    const pod = node.emptyPod('web');
    succeeded(await node.call('add', list, pod));
    assert.deepEqual(ourStarts(succeeded(await node.call('gc', list, undefined, { valid: [] }))), ['DEL', 'GC']);
    assert.doesNotMatch(pictureOf(pod), /table inet ambit/);
  });

  it('does not come to us for GC and CHECK where a list disables them', async () => {
    await using node = await LibcniNode.create(programs);
    await node.startAgent();
    const list = node.chain('1.1.0', {}, { disableCheck: true, disableGC: true });
    const pod = node.emptyPod('web');
    succeeded(await node.call('add', list, pod));
    assert.deepEqual(ourStarts(succeeded(await node.call('check', list, pod))), []);
    assert.deepEqual(ourStarts(succeeded(await node.call('gc', list, undefined, { valid: [] }))), []);
  });

  it('has no answer but ready to its STATUS; what is missing stands in the log', async () => {
    await using node = await LibcniNode.create(programs);
    let missing: string | undefined;
    await node.startAgent(() => missing);
    const list = node.chain('1.1.0');
    assert.equal(succeeded(await node.call('status', list)).stderr, '');
    missing = 'workers are starting';
    assert.match(succeeded(await node.call('status', list)).stderr, /workers are starting; new pods of the mesh wait/);
    await node.stopAgent();
    assert.match(succeeded(await node.call('status', list)).stderr, /does not listen/);
  });
});

describe('versions', () => {
  it('are told to whoever asks, and are all that a list may have', async () => {
    await using node = await LibcniNode.create(programs);
    assert.deepEqual((await node.call('versions')).versions, CNI_VERSIONS);
    for (const version of CNI_VERSIONS) succeeded(await node.call('validate', node.alone(version)));
    for (const version of ['0.1.0', '0.2.0', '1.2.0', '2.0.0', '']) {
      const { error } = await node.call('validate', node.alone(version));
      assert.match(error?.text ?? '', /plugin ambit-cni does not support config version/, version);
    }
  });

  it('of a list with several: the newest that libcni knows is used', async () => {
    await using node = await LibcniNode.create(programs);
    await node.startAgent();
    const pod = node.emptyPod('web');
    const list = node.chain('0.4.0', {}, { cniVersions: ['0.3.1', '1.0.0', '1.1.0', '9.9.9'] });
    const { result } = succeeded(await node.call('add', list, pod));
    assert.equal(result?.cniVersion, '1.1.0');
    succeeded(await node.call('check', list, pod));
    const cached = await node.call('cached', { ...list, cniVersions: ['0.4.0'] }, pod);
    assert.equal(cached.result?.cniVersion, '0.4.0', 'libcni converts what it has kept');
  });

  it('that nobody speaks end the call with code 1, before the agent hears of it', async () => {
    await using node = await LibcniNode.create(programs);
    await node.startAgent();
    const pod = node.emptyPod('web');
    const refused = await node.call('add', node.alone('0.2.0'), pod);
    assert.equal(refusal(refused), 1);
    assert.match(refused.error?.text ?? '', /cniVersion 0\.2\.0 is not supported; supported: 0\.3\.0, .*1\.1\.0/);
    assert.deepEqual(node.capture?.calls, []);
  });
});

describe('wrong configurations', () => {
  it('end with the code and the reason that a runtime shows', async () => {
    await using node = await LibcniNode.create(programs);
    await node.startAgent();
    const pod = node.emptyPod('web');
    const cases: readonly [string, Record<string, unknown>, number, RegExp][] = [
      ['nothing before it', node.alone('1.0.0'), 7, /prevResult is missing; this plugin belongs at the end of a chain/],
      ['a relative folder', node.chain('1.0.0', { runDir: 'run' }), 7, /runDir must be an absolute path/],
      ['a wrong type', node.chain('1.1.0', { timeoutMs: 'long' }), 7, /timeoutMs must be a whole number/],
      ['far too large', node.chain('1.1.0', { notes: 'x'.repeat(5 << 20) }), 6, /configuration is too large/],
    ];
    for (const [name, list, code, reason] of cases) {
      const refused = await node.call('add', list, pod);
      assert.equal(refusal(refused), code, `${name}: ${refused.error?.text}`);
      assert.match(refused.error?.text ?? '', reason, name);
      assert.equal(refused.error?.text.includes('netplugin failed'), false, 'the error object was understood');
      await node.call('del', node.chain('1.0.0'), pod);
    }
    assert.deepEqual(
      node.capture?.calls.filter((call) => call.startsWith('add')),
      [],
    );
  });

  it('are not what others add: unknown keys, runtimeConfig, and a megabyte of them', async () => {
    await using node = await LibcniNode.create(programs);
    await node.startAgent();
    const pod = node.emptyPod('web');
    const keys = { capabilities: { portMappings: true }, notes: 'x'.repeat(1 << 20), other: { deep: [null] } };
    succeeded(await node.call('add', node.chain('1.1.0', keys), pod));
    assert.match(pictureOf(pod), /table inet ambit/);
  });

  it('without a pod of Kubernetes in the arguments, and pods outside the mesh, pass untouched', async () => {
    await using node = await LibcniNode.create(programs);
    await node.startAgent();
    const list = node.chain('1.1.0');
    const [stranger, outside] = [node.emptyPod('stranger'), node.emptyPod('outside')];
    node.world.directory.put('outside', { labels: { 'istio.io/dataplane-mode': 'none' } });
    for (const [pod, more] of [
      [stranger, { args: [] }],
      [outside, {}],
    ] as const) {
      succeeded(await node.call('add', list, pod, more));
      assert.doesNotMatch(pictureOf(pod), /ambit/);
      succeeded(await node.call('check', list, pod, more));
    }
  });
});
