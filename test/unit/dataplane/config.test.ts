import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeConfig, drainGraceMs, readConfig, SETTINGS } from '../../../agent/config.ts';
import { AmbitError } from '../../../core/errors.ts';

test('every mistake of the environment and of the flags is reported in one error', () => {
  const environment = { LOG_FORMAT: 'xml', SECRET_TTL: '1 day', FORCE_ENCRYPTION: 'yes', NODE_NAME: 'n1' };
  assert.throws(
    () => readConfig(environment, { dedicated: 'only-a-name', capture: true }),
    (error) => {
      assert.ok(error instanceof AmbitError);
      assert.equal(error.code, 'CONFIGURATION');
      const lines = error.message.split('\n');
      for (const name of ['LOG_FORMAT', 'SECRET_TTL', 'FORCE_ENCRYPTION', '--dedicated', '--capture']) {
        assert.equal(lines.filter((line) => line.startsWith(name)).length, 1, name);
      }
      return true;
    },
  );
});

test('values have the units of the table', () => {
  const config = readConfig(
    {
      NODE_NAME: 'n1',
      SECRET_TTL: '1h30m',
      POOL_UNUSED_RELEASE_TIMEOUT: '90',
      ISTIO_META_CLUSTER_ID: 'west',
      CLUSTER_ID: 'east',
      XDS_ADDRESS: 'https://control.example:15012',
      ZTUNNEL_WORKER_THREADS: '3',
      AMBIT_EXCLUDED_NAMESPACES: 'a, b,',
    },
    {},
  );
  assert.equal(config.secretTtlMs, 5_400_000);
  assert.equal(config.poolIdleReleaseMs, 90_000);
  assert.equal(config.clusterId, 'west');
  assert.equal(config.xdsAddress, 'control.example:15012');
  assert.equal(config.workers, 3);
  assert.deepEqual(config.excludedNamespaces, ['a', 'b']);
  assert.equal(config.outboundPolicy, 'ALLOW_ANY');
});

test('dedicated mode has no pod source and names its workload', () => {
  const config = readConfig(
    { AMBIT_POD_SOURCE: '/pods' },
    { dedicated: 'ns/pod/account', config: '/mesh.yaml', capture: true },
  );
  assert.deepEqual(config.dedicated, { namespace: 'ns', name: 'pod', serviceAccount: 'account' });
  assert.equal(config.podSource, undefined);
  assert.equal(config.localConfigPath, '/mesh.yaml');
  assert.equal(config.capture, true);
});

test('the drain deadline follows the explicit value, then the grace period with a margin, then five seconds', () => {
  const cases: [Record<string, string>, number][] = [
    [{}, 5000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '30' }, 25_000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '8' }, 7000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '1' }, 1000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '30', CONNECTION_TERMINATION_DEADLINE: '2s' }, 2000],
  ];
  for (const [environment, expected] of cases) assert.equal(drainGraceMs(readConfig(environment, {})), expected);
});

test('every setting has a name of its own, documentation and a place in the dump', () => {
  const names = Object.values(SETTINGS).flatMap((row) => row.env);
  assert.equal(new Set(names).size, names.length);
  const dump = describeConfig(readConfig({}, {}));
  for (const [key, row] of Object.entries(SETTINGS)) {
    assert.ok(row.documentation.endsWith('.'), key);
    assert.ok(key in dump, key);
  }
});
