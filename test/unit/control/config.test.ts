/** The configuration of the control plane: where values come from, and that every mistake is named. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CONTROL_SETTINGS, controlHelp, readControlConfig } from '../../../control/config.ts';

const NEEDED = ['--config-dir', '/c', '--state-dir', '/s'];

test('flags win over the environment, the environment over defaults', () => {
  const config = readControlConfig([...NEEDED, '--trust-domain=flag.example'], {
    TRUST_DOMAIN: 'env.example',
    CLUSTER_ID: 'c1',
    MAX_WORKLOAD_CERT_TTL: '2d',
  });
  assert.equal(config.trustDomain, 'flag.example');
  assert.equal(config.clusterId, 'c1');
  assert.equal(config.maxLifetimeMs, 2 * 86_400_000);
  assert.equal(config.rootNamespace, 'istio-system');
  assert.equal(config.tokenKey, undefined);
  assert.deepEqual(config.listen, { ip: '0.0.0.0', port: 15012 });
});

test('defaults are what their own parsers accept', () => {
  for (const setting of Object.values(CONTROL_SETTINGS)) {
    if (setting.default !== undefined) assert.ok(setting.parse(setting.default).ok, setting.flag);
  }
});

const WRONG: [flag: string, values: string[]][] = [
  ['listen', ['', '15012', 'localhost:15012', '1.2.3.4:', '1.2.3.4:65536', '1.2.3.4:-1', '::1:80']],
  ['root-ttl', ['', '10', '0s', '-1h', '1y', '1s', '1h30m', '99999999999d']],
  ['server-names', ['a b', 'UPPER', 'a,,b', '*.example']],
  ['trusted-node-accounts', ['a', 'a/b/c', 'a/b,', 'A/b']],
  ['cert-rate', ['0', '-1', '1.5', 'x', '100001']],
  ['trust-domain', ['', 'A', 'a/b', 'spiffe://a']],
  ['network', ['a b', '/']],
];
for (const [flag, values] of WRONG) {
  test(`--${flag} refuses what it does not understand`, () => {
    for (const value of values) {
      const read = () => readControlConfig([...NEEDED, `--${flag}=${value}`], {});
      assert.throws(read, { code: 'CONFIGURATION', message: new RegExp(`^--${flag} must be `) }, JSON.stringify(value));
    }
  });
}

test('all mistakes are told at once, each by the name it was given under', () => {
  assert.throws(
    () => readControlConfig(['--listen', 'x', 'stray', '--cluster-id'], { TRUST_DOMAIN: 'A', AMBIT_STATE_DIR: '/s' }),
    (thrown: unknown) => {
      assert.ok(thrown instanceof Error);
      assert.deepEqual(
        thrown.message
          .split('\n')
          .map((line) => line.split(' ')[0])
          .sort(),
        ['"stray"', '--cluster-id', '--config-dir', '--listen', 'TRUST_DOMAIN'],
      );
      return true;
    },
  );
});

test('the help has one entry per setting', () => {
  for (const { flag, env } of Object.values(CONTROL_SETTINGS)) assert.ok(controlHelp().includes(`--${flag} (${env};`));
});
