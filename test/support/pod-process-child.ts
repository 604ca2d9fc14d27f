/** The child side of `pod-process.ts`; runs inside a pod's network namespace and ends with its parent. */
import { connect, createServer, type Socket } from 'node:net';
import type { PodAnswer, PodRequest } from './pod-process.ts';

process.on('message', (request: PodRequest) => {
  if (request.op === 'connect') open(request.id, request.host, request.port);
  else listen(request);
});
process.on('disconnect', () => process.exit(0));

function answer(message: PodAnswer, socket?: Socket): void {
  process.send?.(message, socket, {}, () => {});
}

function open(id: number, host: string, port: number): void {
  const socket = connect({ host, port, allowHalfOpen: true });
  socket.pause();
  const failed = (error: NodeJS.ErrnoException): void => answer({ kind: 'answer', id, error: error.code ?? 'error' });
  socket.once('error', failed);
  socket.once('connect', () => {
    socket.off('error', failed);
    socket.on('error', () => {});
    answer({ kind: 'answer', id }, socket);
  });
}

function listen(request: PodRequest & { op: 'listen' }): void {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: request.mode === 'hand-over' }, (socket) => {
    socket.on('error', () => {});
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const message: PodAnswer = { kind: 'accepted', port, remoteAddress: socket.remoteAddress ?? '' };
    if (request.mode === 'hand-over') return answer(message, socket);
    answer(message);
    socket.on('data', (chunk) => {
      socket.write(chunk);
      if (request.mode === 'double') socket.write(chunk);
    });
    socket.on('end', () => socket.end());
  });
  server.once('error', (error: NodeJS.ErrnoException) => {
    answer({ kind: 'answer', id: request.id, error: error.code ?? 'error' });
  });
  server.listen(request.port, request.host, () => {
    const address = server.address();
    answer({
      kind: 'answer',
      id: request.id,
      port: typeof address === 'object' && address !== null ? address.port : 0,
    });
  });
}
