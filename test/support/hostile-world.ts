/**
 * The stage of a hostile test: our server on a loop, an echo application, and an innocent tunnel on a connection of its own
 * that is used before, during and after the attack.
 */
import assert from 'node:assert/strict';
import net, { type AddressInfo } from 'node:net';
import type { AmbitError } from '../../core/errors.ts';
import type { HboneServerOptions, TunnelRequest } from '../../hbone/server.ts';
import { Http2Runtime } from '../../reactor/http2/runtime.ts';
import type { EventLoop } from '../../reactor/loop.ts';
import type { TlsMaterial } from '../../reactor/tls/context.ts';
import { CLIENT_MATERIAL, SERVER_ID, SERVER_MATERIAL } from './hbone-contract.ts';
import { dialAuthority, type OurServer, startOurClient, startOurServer } from './hbone-peer-ours.ts';
import { RawHttp2 } from './raw-http2.ts';
import { until, withLoop } from './reactor.ts';

export interface HostileWorld {
  readonly loop: EventLoop;
  readonly server: OurServer;
  /** `ip:port` of an application that echoes. */
  readonly echo: string;
  /** Errors of refused sessions and of requests refused with 400, in order. */
  readonly refusals: AmbitError[];
  readonly badRequests: AmbitError[];
  /** CONNECTs that reached the application of the server. */
  readonly connects: () => number;
  readonly counters: Http2Runtime['counters'];
  attacker(settings?: Buffer | null, material?: TlsMaterial): Promise<RawHttp2>;
  /** A round trip on the innocent tunnel, on another connection. */
  innocent(): Promise<void>;
  refused(code: AmbitError['code']): Promise<void>;
}

export function inHostileWorld(
  work: (world: HostileWorld) => Promise<void>,
  overrides: Partial<HboneServerOptions<string>> = {},
  /** Sees every CONNECT first; true = it has answered. */
  answers: (request: TunnelRequest<string>) => boolean = () => false,
): Promise<void> {
  return withLoop(async (loop) => {
    const refusals: AmbitError[] = [];
    const badRequests: AmbitError[] = [];
    let connects = 0;
    const attackers: RawHttp2[] = [];
    const server = startOurServer(loop, SERVER_MATERIAL, {
      onConnect(request) {
        connects++;
        if (!answers(request)) dialAuthority(loop, request);
      },
      onSessionRefused: (facts) => refusals.push(facts.error),
      onRequestRefused: (facts) => badRequests.push(facts.error),
      ...overrides,
    });
    const client = startOurClient(loop, CLIENT_MATERIAL, server.address, SERVER_ID);
    const application = net.createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {});
      socket.pipe(socket);
    });
    await new Promise<void>((resolve) => application.listen(0, '127.0.0.1', resolve));
    const echo = `127.0.0.1:${(application.address() as AddressInfo).port}`;
    const socket = net.connect({ host: '127.0.0.1', port: client.address.port });
    socket.write(`CONNECT ${echo} HTTP/1.1\r\n\r\n`);
    const head = await nextBytes(socket);
    assert.match(head, /^HTTP\/1.1 200/);
    const world: HostileWorld = {
      loop,
      server,
      echo,
      refusals,
      badRequests,
      connects: () => connects,
      counters: Http2Runtime.of(loop).counters,
      async attacker(settings, material = CLIENT_MATERIAL) {
        const raw = await RawHttp2.open(server.address, material, settings);
        attackers.push(raw);
        return raw;
      },
      async innocent() {
        socket.write('innocent');
        assert.equal(await nextBytes(socket), 'innocent');
      },
      refused: (code) =>
        until(loop, `a session is refused with ${code}`, () => refusals.some((error) => error.code === code)),
    };
    try {
      await world.innocent();
      await work(world);
      await world.innocent();
    } finally {
      socket.destroy();
      for (const raw of attackers) raw.destroy();
      await client.stop();
      await server.stop();
      await new Promise<void>((resolve) => {
        application.close(() => resolve());
      });
    }
  });
}

function nextBytes(socket: net.Socket): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error('the innocent tunnel is stalled')), 5000);
  const onData = (part: Buffer) => resolve(part.toString());
  const onClose = () => reject(new Error('the innocent tunnel was closed'));
  socket.once('data', onData);
  socket.once('close', onClose);
  return promise.finally(() => {
    clearTimeout(timer);
    socket.off('data', onData);
    socket.off('close', onClose);
  });
}
