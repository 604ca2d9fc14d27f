import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { ADMIN_LIMITS } from '../../agent/admin/http.ts';
import { startAdmin } from '../../agent/admin/server.ts';
import type { AdminServers, AdminSource, LogLevel } from '../../agent/admin/source.ts';
import { AmbitError } from '../../core/errors.ts';
import { testAdminSource } from '../support/admin-source.ts';

async function withAdmin(fields: Partial<AdminSource>, use: (servers: AdminServers) => Promise<void>): Promise<void> {
  const servers = await startAdmin(testAdminSource(fields), { admin: 0, metrics: 0, readiness: 0 });
  try {
    await use(servers);
  } finally {
    await servers.close();
  }
}

/** The body as JSON, for reading its fields in assertions. */
async function bodyOf(answer: Response): Promise<Record<string, unknown>> {
  const value: unknown = await answer.json();
  assert.ok(typeof value === 'object' && value !== null);
  return Object.fromEntries(Object.entries(value));
}

/** Sends exactly these lines and returns everything the server says until it closes. */
async function raw(port: number, ...lines: string[]): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  let answer = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    answer += chunk;
  });
  socket.setTimeout(10_000, () => socket.destroy(new Error('no answer')));
  await once(socket, 'close');
  return answer;
}

test('the admin port answers requests that name loopback and refuses every other Host and every web page', async () => {
  await withAdmin({}, async ({ ports }) => {
    const get = (...headers: string[]): Promise<string> =>
      raw(ports.admin, 'GET /connections HTTP/1.1', 'Connection: close', ...headers);
    for (const host of ['localhost', `127.0.0.1:${ports.admin}`, '[::1]:15000', 'LOCALHOST:1'])
      assert.match(await get(`Host: ${host}`), /^HTTP\/1\.1 200 /, host);
    for (const host of ['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example:15000', ''])
      assert.match(await get(`Host: ${host}`), /^HTTP\/1\.1 403 /, host);
    assert.match(await get('Host: localhost', 'Origin: http://localhost'), /^HTTP\/1\.1 403 /);
  });
});

test('pages that show take GET and HEAD only, the log level is set by POST only', async () => {
  let level: LogLevel = 'info';
  const source = {
    logLevel: () => level,
    setLogLevel: (wanted: LogLevel) => {
      level = wanted;
    },
  };
  await withAdmin(source, async ({ ports }) => {
    const url = `http://127.0.0.1:${ports.admin}`;
    assert.equal((await fetch(`${url}/config_dump`, { method: 'POST' })).status, 405);
    assert.equal((await fetch(`${url}/logging?level=debug`)).status, 405);
    assert.equal(level, 'info');
    assert.equal((await fetch(`${url}/logging?level=loud`, { method: 'POST' })).status, 400);
    const answer = await fetch(`${url}/logging?level=debug`, { method: 'POST' });
    assert.equal(await answer.text(), 'current log level is debug\n');
    await fetch(`${url}/logging?reset`, { method: 'POST' });
    assert.equal(level, 'info');
    const head = await fetch(`${url}/config_dump`, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(await head.text(), '');
    assert.equal((await fetch(`${url}/toString`)).status, 404);
  });
});

test('the config dump and why are JSON, and a question that has no answer is a 404 with the reason', async () => {
  await withAdmin({}, async ({ ports }) => {
    const url = `http://127.0.0.1:${ports.admin}`;
    const dump = await bodyOf(await fetch(`${url}/config_dump`));
    assert.equal(Array.isArray(dump.workloads) && dump.workloads.length, 5);
    const why = await fetch(`${url}/why?from=shop/frontend&to=stock:80`);
    assert.equal((await bodyOf(why)).verdict, 'allowed');
    const unknown = await fetch(`${url}/why?from=shop/nobody&to=stock:80`);
    assert.equal(unknown.status, 404);
    assert.equal((await bodyOf(unknown)).error, 'UNKNOWN_WORKLOAD');
    assert.equal((await fetch(`${url}/why`)).status, 400);
  });
});

test('metrics are OpenMetrics with the type the scraper asked for', async () => {
  await withAdmin({}, async ({ ports }) => {
    const url = `http://127.0.0.1:${ports.metrics}/metrics`;
    const open = await fetch(url, { headers: { accept: 'application/openmetrics-text;version=1.0.0,*/*;q=0.1' } });
    assert.equal(open.headers.get('content-type'), 'application/openmetrics-text;charset=utf-8;version=1.0.0');
    const text = await open.text();
    assert.match(text, /^process_open_fds [1-9]/m);
    assert.match(text, /^process_cpu_seconds_total /m);
    assert.ok(text.endsWith('# EOF\n'));
    const plain = await fetch(url, { headers: { accept: 'text/plain' } });
    assert.equal(plain.headers.get('content-type'), 'text/plain; charset=utf-8');
  });
});

test('readiness names what is pending, and says ready when nothing is', async () => {
  const pending = ['state manager', 'proxy'];
  await withAdmin({ readiness: () => pending }, async ({ ports }) => {
    const url = `http://127.0.0.1:${ports.readiness}/healthz/ready`;
    const waiting = await fetch(url);
    assert.equal(waiting.status, 500);
    assert.equal(await waiting.text(), 'not ready, pending: state manager, proxy\n');
    pending.length = 0;
    const ready = await fetch(url);
    assert.equal(ready.status, 200);
    assert.equal(await ready.text(), 'ready\n');
    assert.equal((await fetch(url, { method: 'POST' })).status, 405);
  });
});

test('a page that fails answers 500 and the server goes on', async () => {
  const connections = async (): Promise<never> => {
    throw new AmbitError('USAGE', 'broken on purpose');
  };
  await withAdmin({ connections }, async ({ ports }) => {
    const url = `http://127.0.0.1:${ports.admin}`;
    const answer = await fetch(`${url}/connections`);
    assert.equal(answer.status, 500);
    assert.doesNotMatch(await answer.text(), /broken on purpose/);
    assert.equal((await fetch(`${url}/`)).status, 200);
  });
});

test('too large a header and a request that never ends are cut, and an innocent request beside them is served', async () => {
  await withAdmin({}, async ({ ports }) => {
    const large = raw(ports.admin, 'GET / HTTP/1.1', `X: ${'a'.repeat(ADMIN_LIMITS.maxHeaderBytes + 1)}`);
    const slow = connect(ports.admin, '127.0.0.1');
    slow.write('GET / HTTP/1.1\r\nHost: localhost\r\n');
    const cut = once(slow.resume(), 'close');
    assert.equal((await fetch(`http://127.0.0.1:${ports.admin}/`)).status, 200);
    assert.match(await large, /^HTTP\/1\.1 431 /);
    await cut;
  });
});

test('a port that is taken fails the start with the reason, and leaves no server behind', async () => {
  await withAdmin({}, async ({ ports }) => {
    const free = await startAdmin(testAdminSource(), { admin: 0, metrics: 0, readiness: 0 });
    await free.close();
    const wanted = { admin: free.ports.admin, metrics: ports.metrics, readiness: 0 };
    await assert.rejects(startAdmin(testAdminSource(), wanted), { name: 'AmbitError', code: 'SYSTEM_CALL' });
    const again = await startAdmin(testAdminSource(), { admin: free.ports.admin, metrics: 0, readiness: 0 });
    await again.close();
  });
});
