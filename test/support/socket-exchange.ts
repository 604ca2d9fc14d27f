/** Reading from the sockets of tests: everything until the end, a number of bytes, or how the connection ended. */
import { once } from 'node:events';
import type { Socket } from 'node:net';

/** Everything until end of file. Rejects when the connection breaks or `timeoutMs` passes. */
export function readToEnd(socket: Socket, timeoutMs = 5000): Promise<Buffer> {
  const chunks: Buffer[] = [];
  return withTimeout(
    'end of file',
    timeoutMs,
    new Promise((resolve, reject) => {
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      socket.once('end', () => resolve(Buffer.concat(chunks)));
      socket.once('error', reject);
      socket.once('close', () => reject(new Error('closed without end of file')));
    }),
  );
}

/** At least `count` bytes; what comes after stays in the socket's buffer. */
export async function readBytes(socket: Socket, count: number, timeoutMs = 5000): Promise<Buffer> {
  let received = Buffer.alloc(0);
  await withTimeout(
    `${count} bytes`,
    timeoutMs,
    (async () => {
      while (received.length < count) {
        const chunk: Buffer | null = socket.read();
        if (chunk !== null) received = Buffer.concat([received, chunk]);
        else await once(socket, 'readable');
      }
    })(),
  );
  return received;
}

/** How the connection ended: `end` (FIN) or the code of the error (`ECONNRESET`). Data on the way is dropped. */
export function awaitEnd(socket: Socket, timeoutMs = 5000): Promise<string> {
  return withTimeout(
    'the end of the connection',
    timeoutMs,
    new Promise((resolve) => {
      socket.once('end', () => resolve('end'));
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      socket.once('close', () => resolve('close'));
      socket.resume();
    }),
  );
}

async function withTimeout<T>(what: string, timeoutMs: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const overdue = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${timeoutMs} ms: ${what}`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, overdue]);
  } finally {
    clearTimeout(timer);
  }
}
