/** The Kubernetes client and its reflector against an API server (or something in its place) that breaks the rules. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { KubernetesApiError } from '../../kube/api-error.ts';
import { KubeClient, PAGE_SIZE } from '../../kube/client.ts';
import { InClusterCredential } from '../../kube/in-cluster.ts';
import { Reflector, type ReflectorTimes } from '../../kube/reflector.ts';
import { RESOURCES } from '../../kube/resource.ts';
import { TRANSPORT_LIMITS } from '../../kube/transport.ts';
import { MAX_EVENT_BYTES } from '../../kube/watch.ts';
import { eventually } from '../support/eventually.ts';
import { createAuthority } from '../support/pki.ts';
import { fixedCredential, ScriptedApiServer, sendJson, sendStatus } from '../support/scripted-api-server.ts';

const TIMES: Partial<ReflectorTimes> = { firstBackoffMs: 10, maxBackoffMs: 100, healthyMs: 50, patienceMs: 100 };
const list = (names: readonly string[], metadata: object = { resourceVersion: '10' }): object => ({
  metadata,
  items: names.map((name) => ({ metadata: { name, resourceVersion: '5' } })),
});
const event = (type: string, name: string, resourceVersion: string): string =>
  `${JSON.stringify({ type, object: { metadata: { name, resourceVersion } } })}\n`;

/** Fails with this reason. */
async function failure(call: Promise<unknown>): Promise<KubernetesApiError> {
  const thrown: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(thrown instanceof KubernetesApiError, String(thrown));
  return thrown;
}

describe('a call', () => {
  test('whose answer never ends is cut at the limit, and its connection is closed', async () => {
    await using server = await ScriptedApiServer.open((_request, response) => {
      const block = Buffer.alloc(1024 * 1024, 0x20);
      const more = (): void => {
        while (!response.destroyed && response.write(block));
      };
      response.on('drain', more);
      more();
    });
    const client = server.client();
    const error = await failure(client.request({ method: 'GET', path: '/api/v1/pods' }));
    assert.equal(error.reason, 'AnswerTooLarge');
    assert.match(error.message, new RegExp(`larger than ${TRANSPORT_LIMITS.maxAnswerBytes} bytes`));
    await eventually('the connection is closed', () => assert.equal(server.connections, 0));
    client.close();
  });

  test('that is not answered, or only by half, ends at its time limit', async () => {
    await using server = await ScriptedApiServer.open((_request, response, url) => {
      if (url.pathname === '/half') response.write('{"a":');
    });
    const client = server.client();
    for (const path of ['/nothing', '/half']) {
      const error = await failure(client.request({ method: 'GET', path, timeoutMs: 100 }));
      assert.equal(error.message, `GET ${path}: no answer within 100 ms`);
    }
    client.close();
  });

  test('is told apart when the answer is no JSON, a page of a proxy, cut in the middle, or no object', async () => {
    await using server = await ScriptedApiServer.open((_request, response, url) => {
      if (url.pathname === '/page') {
        response.writeHead(503, { 'content-type': 'text/html', 'retry-after': '7' });
        response.end('<html>');
      } else if (url.pathname === '/cut') {
        response.writeHead(200, { 'content-length': '100' });
        response.write('{');
        setImmediate(() => response.destroy());
      } else response.end(url.pathname === '/text' ? 'hello' : '[1]');
    });
    const client = server.client();
    const get = (path: string): Promise<KubernetesApiError> => failure(client.request({ method: 'GET', path }));
    assert.equal((await get('/text')).reason, 'MalformedAnswer');
    const page = await get('/page');
    assert.deepEqual([page.status, page.reason, page.retryAfterMs], [503, 'ServiceUnavailable', 7000]);
    assert.equal((await get('/cut')).status, 0);
    assert.equal((await failure(client.get(RESOURCES.Pod, 'a', 'b'))).reason, 'MalformedAnswer');
    assert.equal((await failure(client.list(RESOURCES.Pod))).reason, 'MalformedAnswer');
    client.close();
  });

  test('trusts only the root of its credential and the name in the URL, whatever the environment says', async (context) => {
    setEnvironment(context, {
      NODE_TLS_REJECT_UNAUTHORIZED: '0',
      HTTPS_PROXY: 'http://127.0.0.1:1',
      NODE_USE_ENV_PROXY: '1',
    });
    await using server = await ScriptedApiServer.open((_request, response) => sendJson(response, 200, {}));
    const client = server.client();
    assert.deepEqual(await client.request({ method: 'GET', path: '/version' }), {});
    const stranger = new KubeClient(fixedCredential(server.url, { ca: createAuthority().pem }), 'ambit-test');
    assert.match((await failure(stranger.request({ method: 'GET', path: '/version' }))).message, /certificate/);
    await using misnamed = await ScriptedApiServer.open(
      (_request, response) => sendJson(response, 200, {}),
      ['127.0.0.2'],
    );
    const other = misnamed.client();
    assert.match((await failure(other.request({ method: 'GET', path: '/version' }))).message, /IP: 127\.0\.0\.1/);
    assert.deepEqual(misnamed.requests, []);
    for (const each of [client, stranger, other]) each.close();
  });

  test('uses a rotated token at once when the old one is refused', async (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'ambit-token-'));
    context.after(() => rmSync(folder, { recursive: true }));
    await using server = await ScriptedApiServer.open((request, response) => {
      if (request.headers.authorization === 'Bearer two') sendJson(response, 200, {});
      else sendStatus(response, 401, 'Unauthorized');
    });
    writeFileSync(join(folder, 'ca.crt'), server.authority.pem);
    writeFileSync(join(folder, 'token'), 'one\n');
    const client = new KubeClient(new InClusterCredential('127.0.0.1', new URL(server.url).port, folder), 'ambit-test');
    assert.equal((await failure(client.request({ method: 'GET', path: '/' }))).status, 401);
    writeFileSync(join(folder, 'token'), 'two\n');
    assert.deepEqual(await client.request({ method: 'GET', path: '/' }), {});
    client.close();
  });

  test('under way is finished when roots or certificates change, and new calls use the new ones', async () => {
    const held = Promise.withResolvers<void>();
    await using server = await ScriptedApiServer.open((_request, response, url) => {
      if (url.pathname === '/held') void held.promise.then(() => sendJson(response, 200, { held: true }));
      else sendJson(response, 200, {});
    });
    let ca = server.authority.pem;
    const credential = { ...fixedCredential(server.url, {}), current: async () => ({ ...NO_STATE, ca }) };
    const client = new KubeClient(credential, 'ambit-test');
    const first = client.request({ method: 'POST', path: '/held' });
    await eventually('it is held', () => assert.equal(server.requests.length, 1));
    ca = createAuthority('another root').pem;
    assert.match((await failure(client.request({ method: 'GET', path: '/' }))).message, /certificate/);
    ca = `${ca}${server.authority.pem}`;
    assert.deepEqual(await client.request({ method: 'GET', path: '/' }), {});
    held.resolve();
    assert.deepEqual(await first, { held: true });
    await eventually('its connection is closed', () => assert.equal(server.connections, 1));
    client.close();
    await eventually('all are closed', () => assert.equal(server.connections, 0));
  });

  test('that reads is repeated when a kept connection turns out closed; one that writes is not', async () => {
    let drop = false;
    await using server = await ScriptedApiServer.open((request, response) => {
      if (drop && request.socket.bytesRead > 0) {
        drop = false;
        request.socket.destroy();
      } else sendJson(response, 200, { metadata: { name: 'a' } });
    });
    const client = server.client();
    await client.get(RESOURCES.Pod, 'a', 'a');
    drop = true;
    await client.get(RESOURCES.Pod, 'a', 'a');
    drop = true;
    assert.equal((await failure(client.create(RESOURCES.Pod, 'a', {}))).status, 0);
    client.close();
  });
});

describe('a reflector', () => {
  /** Watches answer what `watches` gives, in order; after that they stay open. */
  async function follow(
    context: TestContext,
    watches: readonly ((response: ServerResponse, url: URL) => void)[],
    lists: readonly ((response: ServerResponse, url: URL) => void)[] = [],
    times: Partial<ReflectorTimes> = {},
  ) {
    const left = { watches: [...watches], lists: [...lists] };
    const told: string[] = [];
    const server = await ScriptedApiServer.open((_request, response, url) => {
      const watch = url.searchParams.get('watch') === 'true';
      const next = (watch ? left.watches : left.lists).shift();
      if (next !== undefined) next(response, url);
      else if (watch) response.writeHead(200).flushHeaders();
      else sendJson(response, 200, list(['a', 'b']));
    });
    const client = server.client();
    const name = (item: unknown): string => (item as { metadata: { name: string } }).metadata.name;
    const reflector = new Reflector<unknown>(
      client,
      RESOURCES.Pod,
      { times: { ...TIMES, ...times } },
      {
        replaced: (items) => told.push(`= ${items.map(name).join(' ')}`),
        changed: (item) => told.push(`+ ${name(item)}`),
        removed: (item) => told.push(`- ${name(item)}`),
        degraded: (reason) => told.push(`! ${reason ?? 'current'}`),
      },
    );
    context.after(async () => {
      await reflector.close();
      client.close();
      await server[Symbol.asyncDispose]();
    });
    reflector.start();
    const becomes = (...expected: string[]): Promise<void> =>
      eventually('it is told', () =>
        assert.deepEqual(
          told.filter((line) => !line.startsWith('!')),
          expected,
        ),
      );
    return { server, told, becomes, reflector };
  }

  const versionsOf = (server: ScriptedApiServer): (string | null)[] =>
    server.requests
      .filter((request) => request.includes('watch=true'))
      .map((request) => new URL(request.slice(4), server.url).searchParams.get('resourceVersion'));

  test('resumes behind the last event or bookmark', async (context) => {
    const bookmark = `${JSON.stringify({ type: 'BOOKMARK', object: { metadata: { resourceVersion: '30' } } })}\n`;
    const { server, becomes } = await follow(context, [
      (response) => response.end(event('ADDED', 'c', '20')),
      (response) => response.end(bookmark),
      (response) => {
        response.write(event('DELETED', 'a', '40'));
        response.write(event('MODIFIED', 'b', '41').slice(0, 20));
        setImmediate(() => response.destroy());
      },
    ]);
    await becomes('= a b', '+ c', '- a');
    await eventually('four watches', () => assert.deepEqual(versionsOf(server), ['10', '20', '30', '40']));
  });

  for (const [what, say] of [
    ['is no JSON', (response) => response.write('hello\n')],
    ['has no known type', (response) => response.write(event('EXPLODED', 'x', '11'))],
    ['has no object', (response) => response.write('{"type":"ADDED"}\n')],
    ['is a bookmark without a version', (response) => response.write('{"type":"BOOKMARK","object":{}}\n')],
    ['says that the version is too old', (response) => response.write(error(410, 'Expired'))],
    ['says that the server failed', (response) => response.write(error(500, 'InternalError'))],
    ['is larger than the limit', (response) => response.write(Buffer.alloc(MAX_EVENT_BYTES + 1, 0x20))],
  ] satisfies [string, (response: ServerResponse) => void][]) {
    test(`lists again after an event that ${what}`, async (context) => {
      const { server, becomes } = await follow(context, [say]);
      await becomes('= a b', '= a b');
      await eventually('the second watch', () => assert.deepEqual(versionsOf(server), ['10', '10']));
      assert.equal(server.connections, 2, 'one for lists, one for the watch');
    });
  }

  test('resumes after a silent watch, and lists again when its position lies in the future of the server', async (context) => {
    const silent = (response: ServerResponse): void => void response.writeHead(200).flushHeaders();
    const answer = (version: string) => (response: ServerResponse) =>
      sendJson(response, 200, list(['a'], { resourceVersion: version }));
    const lists = [answer('10'), answer('12'), answer('9'), answer('9'), answer('9')];
    const { server, becomes, reflector } = await follow(context, [silent, silent, silent], lists, { silenceMs: 100 });
    await becomes('= a', '= a');
    await eventually('four watches', () => assert.deepEqual(versionsOf(server).slice(0, 4), ['10', '10', '10', '9']));
    assert.equal(reflector.lists, 2);
    const limits = server.requests.flatMap((request) => /limit=(\d+)/.exec(request)?.[1] ?? []);
    assert.deepEqual(limits.slice(0, 3), [String(PAGE_SIZE), '1', '1']);
  });

  test('whose list expires in the middle begins it anew and never hands over a part', async (context) => {
    const { becomes } = await follow(
      context,
      [],
      [
        (response) => sendJson(response, 200, list(['a'], { resourceVersion: '1', continue: 'next' })),
        (response) => sendStatus(response, 410, 'Expired'),
        (response) => sendJson(response, 200, list(['x'], { resourceVersion: '1', continue: 'next' })),
        (response) => sendJson(response, 200, list(['y'])),
      ],
    );
    await becomes('= x y');
  });

  test('asks for smaller pages when one is too large', async (context) => {
    const tooLarge = (response: ServerResponse): void => {
      response.write(Buffer.alloc(TRANSPORT_LIMITS.maxAnswerBytes + 1, 0x20));
    };
    const { server, becomes } = await follow(context, [], [tooLarge]);
    await becomes('= a b');
    const limits = server.requests
      .map((request) => /limit=(\d+)/.exec(request)?.[1])
      .filter((limit) => limit !== undefined);
    assert.deepEqual(limits, [String(PAGE_SIZE), String(Math.ceil(PAGE_SIZE / 4))]);
  });

  test('says why it is not current, and that it is again', async (context) => {
    const forbidden = (response: ServerResponse): void =>
      sendStatus(response, 403, 'Forbidden', 'you cannot list pods');
    const { told } = await follow(context, [], [forbidden, forbidden, forbidden]);
    await eventually('it is current', () =>
      assert.deepEqual(told, ['! GET /api/v1/pods: 403 you cannot list pods', '= a b', '! current']),
    );
  });

  test('keeps its distance from a server that ends every watch at once', async (context) => {
    const { server } = await follow(
      context,
      Array.from({ length: 1000 }, () => (response: ServerResponse) => void response.end()),
    );
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assert.ok(server.requests.length < 40, `${server.requests.length} requests in a second`);
  });

  test('waits as long as the server asks for, within bounds', async (context) => {
    const times: number[] = [];
    const busy = (response: ServerResponse): void => {
      times.push(performance.now());
      response.writeHead(429, { 'retry-after': '100000' });
      response.end();
    };
    const { becomes } = await follow(
      context,
      [],
      [
        busy,
        (response) => {
          times.push(performance.now());
          sendJson(response, 200, list(['a']));
        },
      ],
    );
    await becomes('= a');
    const [first = 0, second = 0] = times;
    assert.ok(second - first >= 99 && second - first < 2000, `${second - first} ms`);
  });
});

const NO_STATE = { ca: undefined, cert: undefined, key: undefined, authorization: undefined };

function error(code: number, reason: string): string {
  return `${JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code, reason, message: reason } })}\n`;
}

function setEnvironment(context: TestContext, values: Readonly<Record<string, string>>): void {
  const before = { ...process.env };
  Object.assign(process.env, values);
  context.after(() => {
    for (const name of Object.keys(values)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  });
}
