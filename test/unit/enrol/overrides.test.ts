/** Annotations that change a pod's capture. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NO_OVERRIDES, readOverrides } from '../../../core/enrolment/overrides.ts';

const BYPASS = 'ambient.istio.io/bypass-inbound-capture';
const REROUTE = 'istio.io/reroute-virtual-interfaces';

describe('overrides', () => {
  it('are the defaults without annotations', () => {
    assert.deepEqual(readOverrides({}), { overrides: NO_OVERRIDES, problems: [] });
  });

  it('bypass inbound capture only for "true"', () => {
    assert.equal(readOverrides({ [BYPASS]: 'true' }).overrides.captureInbound, false);
    assert.equal(readOverrides({ [BYPASS]: 'false' }).overrides.captureInbound, true);
    const odd = readOverrides({ [BYPASS]: 'True' });
    assert.equal(odd.overrides.captureInbound, true);
    assert.equal(odd.problems.length, 1);
  });

  it('tell a pod that asks for DNS capture that there is none, and not one that asks for nothing of the kind', () => {
    const dns = (value: string) => readOverrides({ 'ambient.istio.io/dns-capture': value });
    assert.deepEqual(dns('false'), { overrides: NO_OVERRIDES, problems: [] });
    assert.deepEqual(dns('true').overrides, NO_OVERRIDES);
    assert.match(dns('true').problems.join(), /dns-capture asks for what does not exist here/);
  });

  it('list interfaces without blanks, empty names and repetitions', () => {
    const { overrides, problems } = readOverrides({ [REROUTE]: ' vm0, ,docker0,vm0,' });
    assert.deepEqual([overrides.virtualInterfaces, problems], [['vm0', 'docker0'], []]);
  });

  it('never let a name through that could end a rule', () => {
    const { overrides, problems } = readOverrides({ [REROUTE]: 'a" accept #,x y,0123456789abcdef,ok0,a\nb,$(id)' });
    assert.deepEqual(overrides.virtualInterfaces, ['ok0']);
    assert.equal(problems.length, 5);
  });

  it('take at most 32 interfaces', () => {
    const names = Array.from({ length: 40 }, (_, index) => `v${index}`).join(',');
    const { overrides, problems } = readOverrides({ [REROUTE]: names });
    assert.deepEqual([overrides.virtualInterfaces.length, problems.length], [32, 1]);
  });
});
