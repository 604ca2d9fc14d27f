import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatBaggage,
  formatForwarded,
  newTraceparent,
  parseBaggage,
  parseForwardedHost,
} from '../../../agent/dataplane/baggage.ts';
import { getIp } from '../../../core/ip.ts';
import { testWorkload } from '../../support/workload.ts';

test('baggage describes a workload in the order Istio writes it and leaves empty members out', () => {
  const workload = testWorkload({
    namespace: 'shop',
    workloadName: 'cart',
    workloadType: 'deployment',
    canonicalName: 'cart',
    canonicalRevision: 'v2',
    clusterId: 'west',
    locality: { region: 'r1', zone: '', subzone: '' },
  });
  const text = formatBaggage(workload);
  assert.equal(
    text,
    'k8s.cluster.name=west,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,service.version=v2,cloud.region=r1',
  );
  assert.deepEqual(parseBaggage([text]), {
    cluster: 'west',
    namespace: 'shop',
    workloadName: 'cart',
    service: 'cart',
    revision: 'v2',
    region: 'r1',
    zone: '',
  });
});

test('baggage from a peer is reduced to names: anything else is ignored', () => {
  assert.equal(parseBaggage([]), undefined);
  assert.equal(parseBaggage(['', '=', 'a', 'k=']), undefined);
  assert.equal(parseBaggage(['k8s.namespace.name=a b', 'service.name="x"'])?.namespace, undefined);
  assert.equal(parseBaggage([`service.name=${'x'.repeat(300)}`]), undefined);
  assert.equal(parseBaggage(['k8s.namespace.name=a', 'k8s.pod.name=b'])?.workloadName, 'b');
});

test('any bytes in baggage and forwarded give a value or nothing', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ maxLength: 200 }), { maxLength: 5 }), (lines) => {
      const found = parseBaggage(lines);
      for (const value of Object.values(found ?? {})) assert.match(value, /^[A-Za-z0-9._/-]*$/);
      const host = parseForwardedHost(lines[0]);
      if (host !== undefined) assert.match(host, /^[a-z0-9._-]+$/);
    }),
  );
});

test('forwarded names the client and the service it meant', () => {
  const client = { ip: getIp('10.0.0.1'), port: 4000 };
  assert.equal(formatForwarded(client, undefined), 'for="10.0.0.1:4000"');
  const text = formatForwarded({ ip: getIp('2001:db8::1'), port: 1 }, 'cart.shop.svc.cluster.local');
  assert.equal(text, 'for="[2001:db8::1]:1";host=cart.shop.svc.cluster.local');
  assert.equal(parseForwardedHost(text), 'cart.shop.svc.cluster.local');
  assert.equal(parseForwardedHost('For=x; Host="Cart"'), 'cart');
  assert.equal(parseForwardedHost('for=x'), undefined);
});

test('a traceparent has the four fields of its version and differs each time', () => {
  assert.match(newTraceparent(), /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  assert.notEqual(newTraceparent(), newTraceparent());
});
