/** `ambit analyze` over files: what it prints, and the number it ends with. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { exitCodeOf, renderReport } from '../../../cli/analyze/report.ts';
import { analyzeFiles } from '../../../cli/analyze.ts';
import { refusal } from '../../support/refusal.ts';
import { ROOT } from '../../support/source-files.ts';

const OPTIONS = { namespace: 'istio-system' };
const DEPLOYMENT = `apiVersion: apps/v1
kind: Deployment
metadata: {name: stock, namespace: shop}
spec:
  selector: {matchLabels: {app: stock}}
  template:
    metadata: {labels: {app: stock}}
    spec: {serviceAccountName: stock, containers: [{name: stock, image: x}]}
`;
const SERVICE = `apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop}
spec: {selector: {app: stock}, ports: [{port: 80, targetPort: 8080}]}
`;
const GET_ONLY = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: get-only, namespace: shop}
spec:
  selector: {matchLabels: {app: stock}}
  rules: [{to: [{operation: {methods: [GET]}}]}]
`;
const READERS = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec: {selector: {matchLabels: {app: stock}}, rules: [{from: [{source: {namespaces: [shop]}}]}]}
`;
const WEB_ONLY = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-only-80, namespace: shop}
spec:
  podSelector: {matchLabels: {app: stock}}
  ingress: [{from: [{podSelector: {matchLabels: {app: front}}}], ports: [{port: 8080}]}]
`;

function folder(context: TestContext, files: Readonly<Record<string, string>>): string {
  const path = mkdtempSync(join(tmpdir(), 'ambit-analyze-'));
  context.after(() => rmSync(path, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(path, name, '..'), { recursive: true });
    writeFileSync(join(path, name), text);
  }
  return path;
}

test('a policy that cannot work is shown with its file, field, effect and remedy', (context) => {
  const path = folder(context, {
    'apps/stock.yaml': `${DEPLOYMENT}---\n${SERVICE}`,
    'get-only.yml': `# a comment\n---\n${GET_ONLY}`,
  });
  const report = analyzeFiles([path], OPTIONS);
  assert.equal(exitCodeOf(report), 2);
  assert.deepEqual(renderReport(report, false).split('\n'), [
    `AuthorizationPolicy shop/get-only  (${path}/get-only.yml:3)`,
    '  × AMB0107  rules[0].to[0].operation.methods needs an L7 proxy, but shop/stock has no waypoint',
    '             at run time: at L4 this ALLOW would deny everything',
    '             fix: Bind the policy to a waypoint with targetRefs, or write the rule with ports, identities and addresses.',
    '',
    '1 error, 0 warnings, 0 notes in 3 objects in 2 files',
  ]);
});

test('what is fine is said in one line and ends with 0', (context) => {
  const path = folder(context, { 'a.yaml': `${DEPLOYMENT}---\n${SERVICE}---\n${READERS}` });
  const report = analyzeFiles([path], OPTIONS);
  assert.equal(exitCodeOf(report), 0);
  assert.equal(renderReport(report, false), '√ nothing found in 3 objects in 1 file');
});

test('a lone policy is not blamed for what its file does not show', (context) => {
  const path = folder(context, { 'a.yaml': READERS.replace('namespaces: [shop]', 'serviceAccounts: [other/front]') });
  assert.deepEqual(analyzeFiles([join(path, 'a.yaml')], OPTIONS).findings, []);
});

test('a NetworkPolicy in the way of tunnels is shown with the policy that opens them', (context) => {
  const path = folder(context, { 'a.yaml': `${DEPLOYMENT}---\n${WEB_ONLY}` });
  const [found] = analyzeFiles([path], OPTIONS).findings;
  assert.equal(found?.code, 'AMB0203');
  assert.equal(
    found.companion,
    `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web-only-80-tunnels-ingress
  namespace: shop
spec:
  podSelector:
    matchLabels:
      app: stock
  policyTypes:
    - Ingress
  ingress:
    - from:
        - podSelector:
            matchLabels:
              app: front
      ports:
        - protocol: TCP
          port: 15008
`,
  );
});

test('with the companion nothing blocks tunnels any more, and the rest of the meaning is told', (context) => {
  const [blocked] = analyzeFiles([folder(context, { 'a.yaml': `${DEPLOYMENT}---\n${WEB_ONLY}` })], OPTIONS).findings;
  const path = folder(context, { 'a.yaml': `${DEPLOYMENT}---\n${WEB_ONLY}---\n${blocked?.companion ?? ''}` });
  const codes = analyzeFiles([path], OPTIONS).findings.map(({ code, object }) => `${code} ${object}`);
  assert.ok(!codes.some((code) => code.startsWith('AMB0203')), codes.join());
  assert.ok(codes.includes('AMB0207 NetworkPolicy/shop/web-only-80'), codes.join());
});

test('what is no YAML is an error with its line, and the other documents are looked at', (context) => {
  const path = folder(context, { 'a.yaml': `${DEPLOYMENT}---\n${GET_ONLY}`, 'b.yaml': 'a: [\nb: 1\n' });
  const report = analyzeFiles([path], OPTIONS);
  const shown = report.findings.map(({ code, object }) => `${code} ${object.replace(path, '')}`);
  assert.ok(shown.includes('AMB0107 AuthorizationPolicy/shop/get-only'), shown.join());
  assert.ok(
    shown.some((text) => /^AMB0101 File\/\/.*\/?b\.yaml:\d$/.test(text)),
    shown.join(),
  );
});

test('no file, or a path that leads nowhere, is a failure and not a clean result', (context) => {
  const path = folder(context, { 'readme.md': 'text' });
  assert.throws(() => analyzeFiles([path], OPTIONS), refusal('CONFIGURATION', /no \.yaml/));
  assert.throws(() => analyzeFiles([join(path, 'gone')], OPTIONS), refusal('CONFIGURATION', /does not exist/));
});

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function runAmbit(args: readonly string[], input = ''): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [join(ROOT, 'cli/main.ts'), ...args], (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr }),
    );
    child.stdin?.end(input);
  });
}

test('the command reads standard input, prints JSON and ends with 0, 1 or 2', async (context) => {
  const bad = await runAmbit(['analyze', '-', '-o', 'json'], GET_ONLY);
  assert.equal(bad.code, 2, bad.stderr);
  const report: unknown = JSON.parse(bad.stdout);
  assert.deepEqual(
    report !== null && typeof report === 'object' && 'findings' in report && Array.isArray(report.findings)
      ? report.findings.map(({ code, where }: { code: string; where: string }) => [code, where])
      : undefined,
    [['AMB0107', 'stdin:1']],
  );
  const warned = await runAmbit(
    ['analyze', '-'],
    READERS.replace('rules:', 'action: DENY, rules: [], x-rules:').replace(/, x-rules.*/, '}'),
  );
  assert.equal(warned.code, 1, warned.stdout + warned.stderr);
  assert.match(warned.stdout, /! AMB0116 {2}has no rules/);
  const good = await runAmbit(['analyze', '-'], READERS);
  assert.equal(good.code, 0, good.stderr);
  const gone = await runAmbit(['analyze', join(folder(context, {}), 'gone')]);
  assert.equal(gone.code, 2);
  assert.match(gone.stderr, /does not exist {2}\[CONFIGURATION\]/);
});

test('the mesh of the sandbox has no findings', () => {
  assert.deepEqual(analyzeFiles([join(ROOT, 'sandbox/mesh')], OPTIONS).findings, []);
});
