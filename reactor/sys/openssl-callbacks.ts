/**
 * The two places where OpenSSL calls back: the server's choice of an application protocol and a client's new session.
 * One C entry point each per thread; the JavaScript side finds its object by a small number (context) or by the SSL pointer.
 * Callbacks run inside SSL_do_handshake or SSL_read of the same thread and never throw.
 */
import koffi from 'koffi';
import { allocateBlock, copyFromNative, type NativeBlock } from './memory.ts';
import { TLSEXT_ERR_ALERT_FATAL, TLSEXT_ERR_OK } from './openssl-library.ts';

koffi.proto(
  'int AmbitSelectProtocol(uintptr_t ssl, uintptr_t out, uintptr_t outLength, uintptr_t offered, uint offeredLength, uintptr_t argument)',
);
koffi.proto('int AmbitNewSession(uintptr_t ssl, uintptr_t session)');

/** ALPN wire format (RFC 7301 section 3.1): each name behind its length. */
export function encodeProtocols(names: readonly string[]): Buffer {
  return Buffer.concat(names.flatMap((name) => [Buffer.from([name.length]), Buffer.from(name, 'latin1')]));
}

interface Choice {
  readonly wire: NativeBlock;
  readonly length: number;
  readonly names: readonly string[];
}

const choices = new Map<number, Choice>();
let lastChoice = 0;

/** Keeps a server's protocols, in order of preference, for the callback; the number is its argument. */
export function keepProtocols(names: readonly string[]): number {
  const encoded = encodeProtocols(names);
  const wire = allocateBlock(Math.max(1, encoded.length));
  wire.bytes.set(encoded);
  choices.set(++lastChoice, { wire, length: encoded.length, names });
  return lastChoice;
}

export function dropProtocols(number: number): void {
  choices.delete(number);
}

/** Pass to SSL_CTX_set_alpn_select_cb with the number of `keepProtocols`. */
export const selectProtocol = koffi.register(
  (_ssl: number, out: number, outLength: number, offered: number, offeredLength: number, argument: number): number => {
    const choice = choices.get(argument);
    if (choice === undefined) return TLSEXT_ERR_ALERT_FATAL;
    const list = copyFromNative(offered, offeredLength);
    let at = 0;
    for (const name of choice.names) {
      if (offers(list, name)) {
        koffi.encode(out, 'uint64_t', choice.wire.address + at + 1);
        koffi.encode(outLength, 'uint8_t', name.length);
        return TLSEXT_ERR_OK;
      }
      at += 1 + name.length;
    }
    return TLSEXT_ERR_ALERT_FATAL;
  },
  'AmbitSelectProtocol *',
);

const sessionTakers = new Map<number, (session: number) => void>();

/** `take` borrows each new session of this connection. Forget it before SSL_free. */
export function takeSessions(ssl: number, take: (session: number) => void): void {
  sessionTakers.set(ssl, take);
}

export function forgetSessions(ssl: number): void {
  sessionTakers.delete(ssl);
}

/** Pass to SSL_CTX_sess_set_new_cb. Returns 0: OpenSSL keeps ownership. */
export const newSession = koffi.register((ssl: number, session: number): number => {
  sessionTakers.get(ssl)?.(session);
  return 0;
}, 'AmbitNewSession *');

function offers(list: Buffer, name: string): boolean {
  for (let at = 0; at < list.length; at += 1 + (list[at] ?? 0)) {
    const length = list[at] ?? 0;
    if (length === name.length && list.toString('latin1', at + 1, at + 1 + length) === name) return true;
  }
  return false;
}
