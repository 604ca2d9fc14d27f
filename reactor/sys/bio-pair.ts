/**
 * A pair of OpenSSL memory BIOs: what a connection seals into one side is taken from the other side without a copy and
 * written to the socket with one system call. OpenSSL itself would make one call per record of 16 KiB.
 */
import { AmbitError } from '../../core/errors.ts';
import { EAGAIN, EINTR, errno } from './errno.ts';
import { sys } from './libc.ts';
import { allocateBlock } from './memory.ts';
import { drainErrors } from './openssl-errors.ts';
import { ssl } from './openssl-library.ts';

const out = allocateBlock(16);

export class BioPair {
  readonly #sealed: number;
  readonly #wire: number;

  /** Room for `capacity` bytes; a write beyond it makes OpenSSL ask to write later. */
  constructor(capacity: number) {
    // The direction towards the connection is never used; it gets the least room.
    if (ssl.BIO_new_bio_pair(out.address, capacity, out.address + 8, 1) !== 1) {
      throw new AmbitError('SYSTEM_CALL', `BIO_new_bio_pair: ${drainErrors()}`);
    }
    this.#sealed = Number(out.bytes.readBigUInt64LE(0));
    this.#wire = Number(out.bytes.readBigUInt64LE(8));
  }

  /** From now on the connection writes into this pair. */
  attach(connection: number): void {
    ssl.BIO_up_ref(this.#sealed);
    ssl.SSL_set0_wbio(connection, this.#sealed);
  }

  /** Writes what is inside to the socket. Bytes that it refused (0 when all is out), or -errno. */
  flush(fd: number): number {
    for (;;) {
      const length = ssl.BIO_nread0(this.#wire, out.address);
      if (length <= 0) return 0;
      const written = sys.write(fd, Number(out.bytes.readBigUInt64LE(0)), length);
      if (written < 0) {
        const number = errno();
        return number === EAGAIN || number === EINTR ? length : -number;
      }
      ssl.BIO_nread(this.#wire, out.address, written);
      if (written < length) return length - written;
    }
  }

  /** Takes over everything that is inside `from`, which is empty afterwards. */
  moveFrom(from: BioPair): void {
    const length = ssl.BIO_nread(from.#wire, out.address, 0x7fffffff);
    if (length <= 0) return;
    const kept = ssl.BIO_write(this.#sealed, Number(out.bytes.readBigUInt64LE(0)), length);
    if (kept !== length) throw new AmbitError('USAGE', `BIO of ${length} bytes does not fit`);
  }

  /** Throws away what is inside. */
  clear(): void {
    while (ssl.BIO_nread(this.#wire, out.address, 0x7fffffff) > 0);
  }

  free(): void {
    ssl.BIO_free(this.#sealed);
    ssl.BIO_free(this.#wire);
  }
}

/** The connection writes to its socket itself again. */
export function attachSocket(connection: number): void {
  const socket = ssl.SSL_get_rbio(connection);
  ssl.BIO_up_ref(socket);
  ssl.SSL_set0_wbio(connection, socket);
}
