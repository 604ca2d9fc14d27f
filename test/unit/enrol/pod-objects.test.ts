/** Pods and namespaces out of YAML, and the folder that is watched for them. */
import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { admit } from '../../../agent/enrol/admission.ts';
import { FilePodDirectory } from '../../../agent/enrol/file-pod-directory.ts';
import { readPodObjects } from '../../../agent/enrol/pod-objects.ts';
import { DEFAULT_ELIGIBILITY } from '../../../core/enrolment/eligibility.ts';

const POD = `
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: demo
  uid: 5a1c
  labels: { app: web }
  annotations: { constructor: "yes" }
spec: { serviceAccountName: web, nodeName: node-1 }
status: { podIPs: [{ ip: 10.1.2.3 }, { ip: "FD00::1" }] }
`;
const NAMESPACE = 'kind: Namespace\nmetadata: { name: demo, labels: { istio.io/dataplane-mode: ambient } }\n';

describe('objects in YAML', () => {
  it('are read with what enrolment needs', () => {
    const { pods, namespaces, problems } = readPodObjects(`${POD}---\n${NAMESPACE}---\nkind: Service\n`);
    assert.deepEqual(problems, []);
    assert.deepEqual({ ...namespaces[0]?.labels }, { 'istio.io/dataplane-mode': 'ambient' });
    const [pod] = pods;
    assert.deepEqual(
      [pod?.uid, pod?.serviceAccount, pod?.nodeName, pod?.hostNetwork, pod?.ips],
      ['5a1c', 'web', 'node-1', false, ['10.1.2.3', 'fd00::1']],
    );
    assert.equal(pod?.annotations.toString, undefined, 'labels inherit nothing');
  });

  it('have the defaults of Kubernetes', () => {
    const [pod] = readPodObjects('kind: Pod\nmetadata: { name: bare }\n').pods;
    assert.deepEqual([pod?.namespace, pod?.serviceAccount, pod?.uid, pod?.ips], ['default', 'default', undefined, []]);
  });

  it('that are wrong are reported with their line and hide no others', () => {
    const text = `${NAMESPACE}---\nkind: Pod\nmetadata: { labels: {} }\n---\nkind: Pod\nmetadata: { name: x, labels: { a: 1 } }\n---\na: [\n---\n${POD}`;
    const { pods, namespaces, problems } = readPodObjects(text);
    assert.deepEqual([pods.length, namespaces.length], [1, 1]);
    assert.deepEqual(
      problems.map(({ line }) => line),
      [4, 7, 11],
    );
    assert.match(problems[1]?.reason ?? '', /labels\.a must be text/);
  });
});

describe('the pod folder', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'ambit-pods-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('is followed: a CNI call that came first is answered when the pod appears', async () => {
    writeFileSync(join(folder, 'namespace.yaml'), NAMESPACE);
    const directory = await FilePodDirectory.open(folder);
    try {
      const options = { directory, eligibility: DEFAULT_ELIGIBILITY, waitMs: 5_000 };
      const admission = admit({ namespace: 'demo', name: 'web-0', uid: '5a1c' }, options);
      writeFileSync(join(folder, '.pod.tmp'), POD);
      renameSync(join(folder, '.pod.tmp'), join(folder, 'pod.yaml'));
      assert.equal((await admission).kind, 'eligible');
      rmSync(join(folder, 'pod.yaml'));
      await changed(directory, () => directory.findPod('demo', 'web-0') === undefined);
    } finally {
      directory.close();
    }
  });

  it('keeps the last good state of a file with a mistake', async () => {
    const file = join(folder, 'all.yaml');
    writeFileSync(file, `${POD}---\n${NAMESPACE}`);
    const directory = await FilePodDirectory.open(folder);
    try {
      writeFileSync(file, `${POD.replace('app: web', 'app: 7')}---\n${NAMESPACE.replace('ambient', 'none')}`);
      await changed(directory, () => directory.findNamespace('demo')?.labels['istio.io/dataplane-mode'] === 'none');
      assert.equal(directory.findPod('demo', 'web-0')?.labels.app, 'web');
    } finally {
      directory.close();
    }
  });

  it('does not take the predecessor of a pod for the pod', async () => {
    writeFileSync(join(folder, 'all.yaml'), `${POD}---\n${NAMESPACE}`);
    const directory = await FilePodDirectory.open(folder);
    try {
      const options = { directory, eligibility: DEFAULT_ELIGIBILITY, waitMs: 20 };
      const successor = admit({ namespace: 'demo', name: 'web-0', uid: 'another' }, options);
      await assert.rejects(successor, { code: 'UNKNOWN_WORKLOAD' });
      assert.equal(
        (await admit({ namespace: 'kube-system', name: 'dns', uid: undefined }, options)).kind,
        'ineligible',
      );
    } finally {
      directory.close();
    }
  });

  it('must exist', async () => {
    await assert.rejects(FilePodDirectory.open(join(folder, 'absent')), { code: 'CONFIGURATION' });
  });
});

function changed(directory: FilePodDirectory, wanted: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the folder was not read again')), 5_000);
    const look = () => {
      if (!wanted()) return;
      clearTimeout(timer);
      stop();
      resolve();
    };
    const stop = directory.onChange(look);
    look();
  });
}
