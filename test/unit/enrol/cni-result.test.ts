/** What the plugin prints: results of every version in every version, and the network configuration's values. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CNI_VERSIONS } from '../../../cni-plugin/cni-version.ts';
import { readNetworkConfig } from '../../../cni-plugin/network-config.ts';
import { addressesOf, convertResult } from '../../../cni-plugin/result.ts';

const NEWEST = {
  cniVersion: '1.1.0',
  interfaces: [{ name: 'eth0', mac: '00:11:22:33:44:55', sandbox: '/run/netns/x', mtu: 1450, pciID: '0' }],
  ips: [
    { interface: 0, address: '10.1.2.3/24', gateway: '10.1.2.1' },
    { interface: 0, address: 'fd00::3/64' },
  ],
  routes: [{ dst: '0.0.0.0/0', gw: '10.1.2.1', priority: 5 }],
  dns: { nameservers: ['10.1.0.1'] },
};

describe('results', () => {
  for (const version of CNI_VERSIONS) {
    it(`of the newest version become ${version}`, () => {
      const result = JSON.parse(JSON.stringify(convertResult(NEWEST, version)));
      assert.equal(result.cniVersion, version);
      assert.deepEqual(result.dns, NEWEST.dns);
      assert.equal(result.ips[1].version, version.startsWith('0.') ? '6' : undefined);
      assert.equal('mtu' in result.interfaces[0], version === '1.1.0');
      assert.equal('priority' in result.routes[0], version === '1.1.0');
      assert.deepEqual(addressesOf(result), ['10.1.2.3', 'fd00::3']);
    });
  }

  it('of 0.4.0 lose the field that 1.0.0 no longer has', () => {
    const old = { cniVersion: '0.4.0', ips: [{ version: '4', address: '10.1.2.3/24' }] };
    assert.deepEqual(convertResult(old, '1.0.0'), { cniVersion: '1.0.0', ips: [{ address: '10.1.2.3/24' }] });
    assert.deepEqual(convertResult(old, '0.3.1'), {
      cniVersion: '0.3.1',
      ips: [{ version: '4', address: '10.1.2.3/24' }],
    });
  });

  it('are empty when there was none before', () => {
    assert.deepEqual(convertResult(undefined, '1.0.0'), { cniVersion: '1.0.0' });
    assert.deepEqual(addressesOf(undefined), []);
  });
});

describe('network configuration', () => {
  it('has defaults for everything of ours', () => {
    const config = readNetworkConfig('{"cniVersion":"1.0.0","type":"ambit-cni","capabilities":{}}');
    assert.deepEqual([config.runDir, config.excludeNamespaces], ['/var/run/ambit', ['kube-system']]);
  });

  it('tells a list of attachments that is null from one that is absent', () => {
    const read = (change: object) => readNetworkConfig(JSON.stringify({ cniVersion: '1.1.0', ...change }));
    assert.deepEqual(read({ 'cni.dev/valid-attachments': null }).validAttachments, []);
    assert.equal(read({}).validAttachments, undefined);
  });

  const wrong: readonly [string, object, number][] = [
    ['a namespace list that is text', { excludeNamespaces: 'kube-system' }, 7],
    ['a time that is text', { timeoutMs: '10s' }, 7],
    ['a time without end', { timeoutMs: 1e9 }, 7],
    ['an empty agent namespace, which would let anybody pass', { agentNamespace: '' }, 7],
    ['an empty prefix, which would let the whole namespace pass', { agentPodPrefix: '' }, 7],
    ['a previous result that is a list', { prevResult: [] }, 7],
    ['attachments without a container', { 'cni.dev/valid-attachments': [{ ifname: 'eth0' }] }, 7],
    ['a version of the future', { cniVersion: '2.0.0' }, 1],
  ];
  for (const [name, change, code] of wrong) {
    it(`refuses ${name}`, () => {
      assert.throws(() => readNetworkConfig(JSON.stringify({ cniVersion: '1.0.0', ...change })), { code });
    });
  }
});
