/** Pure parts of enrolment on Kubernetes: the plan, probe ports, cgroups, the status of a pod, the rules of a node. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type HeldPod, planEnrolment } from '../../../agent/enrol/enrolment-plan.ts';
import { readPodUid } from '../../../agent/enrol/find-netns.ts';
import { buildHostRules } from '../../../agent/enrol/host-rules.ts';
import { KubeletFinder } from '../../../agent/enrol/kubelet.ts';
import { readPodFacts } from '../../../agent/enrol/pod-facts.ts';
import { eventOf, isCaptured, isWritten, statusOf, statusPatch } from '../../../agent/enrol/pod-status.ts';
import { readProbePorts } from '../../../agent/enrol/probe-ports.ts';
import { DEFAULT_ELIGIBILITY } from '../../../core/enrolment/eligibility.ts';
import { NO_OVERRIDES } from '../../../core/enrolment/overrides.ts';
import { getIp } from '../../../core/ip.ts';

const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };
const UID = '11111111-2222-3333-4444-555555555555';

function pod(changes: object = {}, status: object = { phase: 'Running', podIPs: [{ ip: '10.1.2.3' }] }) {
  const { metadata = {}, spec = {} } = { metadata: {}, spec: {}, ...changes };
  return readPodFacts({
    metadata: { name: 'web', namespace: 'demo', uid: UID, ...metadata },
    spec: { nodeName: 'n', ...spec },
    status,
  });
}

function held(changes: Partial<HeldPod> = {}): HeldPod {
  return { state: 'enrolled', uid: UID, overrides: NO_OVERRIDES, ...changes };
}

describe('the plan for a pod', () => {
  const inMesh = { name: 'demo', labels: AMBIENT };
  const outside = { name: 'demo', labels: {} };
  const optedOut = { metadata: { labels: { 'istio.io/dataplane-mode': 'none' } } };
  const optedIn = { metadata: { labels: AMBIENT } };
  const terminal = { phase: 'Succeeded', podIPs: [{ ip: '10.1.2.3' }] };
  const bypass = { metadata: { annotations: { 'ambient.istio.io/bypass-inbound-capture': 'true' } } };
  for (const [name, input, step] of [
    ['in a labelled namespace is to be brought in', { pod: pod(), namespace: inMesh }, 'enrol'],
    ['labelled itself is to be brought in', { pod: pod(optedIn), namespace: outside }, 'enrol'],
    ['without an address waits for one', { pod: pod({}, { phase: 'Pending' }), namespace: inMesh }, 'wait'],
    ['that is in and should be is left alone', { pod: pod(), namespace: inMesh, held: held() }, 'nothing'],
    ['without an address for a moment stays in', { pod: pod({}, {}), namespace: inMesh, held: held() }, 'nothing'],
    ['whose annotation changed gets other rules', { pod: pod(bypass), namespace: inMesh, held: held() }, 'reapply'],
    ['whose namespace lost the label leaves', { pod: pod(), namespace: outside, held: held() }, 'leave'],
    ['that opted out leaves', { pod: pod(optedOut), namespace: inMesh, held: held() }, 'leave'],
    [
      'that leaves and should goes on leaving',
      { pod: pod(), namespace: outside, held: held({ state: 'leaving' }) },
      'nothing',
    ],
    [
      'that leaves and should be in comes back',
      { pod: pod(), namespace: inMesh, held: held({ state: 'leaving' }) },
      'enrol',
    ],
    [
      'being brought in is left alone',
      { pod: pod(), namespace: inMesh, held: held({ state: 'enrolling' }) },
      'nothing',
    ],
    [
      'broken and wanted is retried by the sweep',
      { pod: pod(), namespace: inMesh, held: held({ state: 'broken' }) },
      'nothing',
    ],
    ['broken and unwanted is let go', { pod: pod(), namespace: outside, held: held({ state: 'broken' }) }, 'release'],
    ['whose containers have ended is let go', { pod: pod({}, terminal), namespace: inMesh, held: held() }, 'release'],
    ['whose containers have ended is not brought in', { pod: pod({}, terminal), namespace: inMesh }, 'outside'],
    [
      'whose name another pod has now is let go',
      { pod: pod(), namespace: inMesh, held: held({ uid: 'former' }) },
      'release',
    ],
    ['whose object is gone is left to its sandbox', { pod: undefined, namespace: inMesh, held: held() }, 'nothing'],
    ['whose namespace is unknown stays as it is', { pod: pod(), namespace: undefined, held: held() }, 'nothing'],
    [
      'on the network of the node stays outside',
      { pod: pod({ spec: { hostNetwork: true } }), namespace: inMesh },
      'outside',
    ],
  ] as const) {
    it(`a pod ${name}`, () => {
      assert.equal(planEnrolment({ held: undefined, ...input, eligibility: DEFAULT_ELIGIBILITY }).kind, step);
    });
  }

  it('says so when a pod asks for the mesh and cannot be in it, and not when it never asked', () => {
    const surprising = (facts: ReturnType<typeof pod>, namespace: typeof inMesh | typeof outside) => {
      const step = planEnrolment({ pod: facts, namespace, held: undefined, eligibility: DEFAULT_ELIGIBILITY });
      return step.kind === 'outside' ? step.surprising : step.kind;
    };
    const sidecar = { metadata: { annotations: { 'sidecar.istio.io/status': '{}' } } };
    assert.equal(surprising(pod(sidecar), inMesh), 'sidecar');
    assert.equal(surprising(pod(sidecar), outside), undefined);
    assert.equal(surprising(pod(optedOut), inMesh), undefined);
    assert.equal(surprising(pod({ spec: { hostNetwork: true } }), inMesh), 'hostNetwork');
  });

  it('knows a static pod by the UID the runtime has for it', () => {
    const mirror = pod({ metadata: { annotations: { 'kubernetes.io/config.mirror': 'f'.repeat(32) } } });
    const input = { pod: mirror, namespace: inMesh, held: held({ uid: 'f'.repeat(32) }) };
    assert.equal(planEnrolment({ ...input, eligibility: DEFAULT_ELIGIBILITY }).kind, 'nothing');
  });
});

describe('probe ports', () => {
  it('are those of every probe and hook of every container, by number or by name', () => {
    const ports = [{ name: 'http', containerPort: 8080 }];
    const spec = {
      containers: [
        {
          ports,
          livenessProbe: { httpGet: { port: 'http' } },
          readinessProbe: { tcpSocket: { port: 9090 } },
          startupProbe: { grpc: { port: 9091 } },
          lifecycle: { preStop: { httpGet: { port: 9092 } }, postStart: { exec: { command: ['true'] } } },
        },
        { livenessProbe: { exec: { command: ['true'] } } },
      ],
      initContainers: [{ restartPolicy: 'Always', readinessProbe: { httpGet: { port: 15_020, host: '' } } }],
    };
    assert.deepEqual(readProbePorts(spec), [8080, 9090, 9091, 9092, 15_020]);
  });

  for (const [what, probe] of [
    ['goes elsewhere', { httpGet: { port: 80, host: '10.0.0.1' } }],
    ['names a port nobody declares', { httpGet: { port: 'nothing' } }],
    ['names no port', { tcpSocket: {} }],
    ['names an impossible port', { tcpSocket: { port: 70_000 } }],
    ['is no probe', 7],
  ] as const) {
    it(`leave out what ${what}`, () => {
      assert.deepEqual(readProbePorts({ containers: [{ livenessProbe: probe }] }), []);
    });
  }
});

describe('the pod of a process', () => {
  for (const [text, uid] of [
    [
      `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID.replaceAll('-', '_')}.slice/cri-containerd-ab.scope`,
      UID,
    ],
    [`12:memory:/kubepods/besteffort/pod${UID}/cd34\n11:cpu:/kubepods/besteffort/pod${UID}/cd34`, UID],
    [`0::/system.slice/containerd.service/kubepods-pod${UID.replaceAll('-', '_')}.slice:cri-containerd:ab`, UID],
    [`0::/kubepods/burstable/pod${'a'.repeat(32)}/x`, 'a'.repeat(32)],
    ['0::/system.slice/kubelet.service', undefined],
    [`1:a:/kubepods/pod${UID}/x\n2:b:/kubepods/pod${UID.replace('1', '9')}/x`, undefined],
    ['', undefined],
  ] as const) {
    it(`is ${uid ?? 'unknown'} for ${text.slice(0, 60)}`, () => assert.equal(readPodUid(text), uid));
  }
});

describe('the user of kubelet', () => {
  it('is that of the process of the node with its name, not of one in a pod or on another network', (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'ambit-proc-'));
    context.after(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'node-net'), '');
    writeFileSync(join(folder, 'pod-net'), '');
    const put = (
      pid: number,
      comm: string,
      uid: number,
      net = 'node-net',
      cgroup = '0::/system.slice/x.service',
    ): void => {
      mkdirSync(join(folder, `${pid}`, 'ns'), { recursive: true });
      symlinkSync(join(folder, net), join(folder, `${pid}`, 'ns', 'net'));
      writeFileSync(join(folder, `${pid}`, 'comm'), `${comm}\n`);
      writeFileSync(join(folder, `${pid}`, 'cgroup'), `${cgroup}\n`);
      writeFileSync(join(folder, `${pid}`, 'status'), `Name:\t${comm}\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\n`);
    };
    const finder = new KubeletFinder(folder);
    put(1, 'systemd', 0);
    assert.equal(finder.find().uid, 0);
    put(20, 'kubelet', 666, 'pod-net');
    put(30, 'kubelet', 667, 'node-net', `0::/kubepods/pod${UID}/ab`);
    assert.deepEqual(finder.find(), { uid: 0, source: 'no process of the node is kubelet' });
    put(40, 'kubelite', 995);
    assert.deepEqual(finder.find(), { uid: 995, source: 'process 40 (kubelite)' });
    writeFileSync(join(folder, '40', 'comm'), 'other\n');
    put(50, 'kubelet', 0);
    assert.deepEqual(finder.find(), { uid: 0, source: 'process 50 (kubelet)' }, 'kubelet was restarted');
    assert.equal(new KubeletFinder(undefined).find().uid, 0);
  });
});

describe('the status of a pod', () => {
  const enrolled = statusOf({ kind: 'enrolled', selfTest: 'passed' });
  const written = (status: typeof enrolled) => ({
    redirection: status.redirection,
    condition: status.condition && `${status.condition.status} ${status.condition.reason} ${status.condition.message}`,
  });

  it('has the annotation peers wait for, and a condition for people', () => {
    assert.deepEqual([enrolled.redirection, enrolled.condition?.status], ['enabled', 'True']);
    const pending = statusOf({ kind: 'pending', code: 'NETNS', detail: 'no address' });
    assert.deepEqual([pending.redirection, pending.condition?.reason], ['pending', 'Pending']);
    assert.match(pending.condition?.message ?? '', /no address\..*\(NETNS\)$/);
    const failed = statusOf({ kind: 'enrolled', selfTest: 'a connection was not redirected' });
    assert.deepEqual([failed.redirection, failed.condition?.reason], ['enabled', 'NotRedirected']);
    for (const kind of ['gone', 'leaving'] as const) {
      assert.deepEqual(statusOf({ kind, detail: '' }), { redirection: undefined, condition: undefined });
    }
  });

  it('is written only when something else is there', () => {
    assert.equal(isWritten(enrolled, written(enrolled)), true);
    assert.equal(isWritten(enrolled, { redirection: 'enabled', condition: undefined }), false);
    assert.equal(isWritten(statusOf({ kind: 'gone' }), { redirection: undefined, condition: undefined }), true);
    assert.equal(isCaptured(written(enrolled)), true);
    assert.equal(isCaptured(written(statusOf({ kind: 'pending', code: 'NETNS', detail: '' }))), false);
  });

  it('is patched for this very pod, and leaves the conditions of others alone', () => {
    const now = new Date('2030-01-02T03:04:05.678Z');
    assert.deepEqual(statusPatch('uid', enrolled, now), {
      metadata: { uid: 'uid', annotations: { 'ambient.istio.io/redirection': 'enabled' } },
      status: {
        conditions: [{ type: 'ambit.io/Enrolled', ...enrolled.condition, lastTransitionTime: '2030-01-02T03:04:05Z' }],
      },
    });
    assert.deepEqual(statusPatch('uid', statusOf({ kind: 'gone' }), now), {
      metadata: { uid: 'uid', annotations: { 'ambient.istio.io/redirection': null } },
      status: { conditions: [{ $patch: 'delete', type: 'ambit.io/Enrolled' }] },
    });
  });

  it('is an event when people should hear of it', () => {
    assert.equal(eventOf({ kind: 'enrolled', selfTest: 'running' }), undefined);
    assert.equal(eventOf({ kind: 'gone' }), undefined);
    assert.equal(eventOf({ kind: 'enrolled', selfTest: 'passed' })?.type, 'Normal');
    assert.equal(eventOf({ kind: 'pending', code: 'RULES', detail: 'x' })?.type, 'Warning');
  });
});

describe('the rules of a node', () => {
  it('name each address and port once, with the pod that has it', () => {
    const targets = [
      { ip: getIp('10.1.2.3'), port: 8080, podUid: 'former' },
      { ip: getIp('10.1.2.3'), port: 8080, podUid: 'now' },
      { ip: getIp('fd00::1'), port: 8080, podUid: 'now' },
    ];
    const text = buildHostRules(targets, 995);
    assert.match(text, /probes-v4 \{ 10\.1\.2\.3 \. 8080 comment "now" \}/);
    assert.match(text, /probes-v6 \{ fd00::1 \. 8080 comment "now" \}/);
    assert.match(text, /meta skuid 995/);
    assert.doesNotMatch(buildHostRules([], 0), /add element/);
  });
});
