/**
 * TLS 1.3 over a TcpSocket, as a ByteChannel: OpenSSL reads and writes the descriptor itself, the loop tells when.
 *
 *   handshaking --done--> secure --close()--> closed, or lingering (sends what was accepted, at most LINGER_MS) --> closed
 *        \--failure or time limit--> closed
 *
 * OpenSSL reads ahead, so bytes can wait inside it while the descriptor is silent: whenever the owner wants to read and
 * something is left inside, the event is repeated in the next turn. The chain of the peer was verified against the roots of
 * the context before `onSecure`; whose identity it is, is the owner's question. A client is secure before the server has
 * judged its certificate: a refusal arrives later, as a failed read.
 */
import { AmbitError } from '../../core/errors.ts';
import { Arena } from '../arena.ts';
import { type ByteChannel, type ChannelOwner, NO_OWNER, READABLE, WOULD_BLOCK, WRITABLE } from '../byte-channel.ts';
import type { EventLoop, LoopOwned, Timer, TurnTask } from '../loop.ts';
import { EPIPE, errnoName } from '../sys/errno.ts';
import { forgetSessions, takeSessions } from '../sys/openssl-callbacks.ts';
import { drainErrors } from '../sys/openssl-errors.ts';
import { SSL_ERROR_WANT_WRITE, ssl } from '../sys/openssl-library.ts';
import { unacknowledgedBytes } from '../sys/socket-options.ts';
import type { TcpSocket } from '../tcp-socket.ts';
import { BulkOutput } from './bulk-output.ts';
import type { TlsContext } from './context.ts';
import * as facts from './facts.ts';
import { ENDED, outcomeOf, outcomeReason, WANTS_READ, WANTS_WRITE } from './outcome.ts';
import { RECORD_BYTES } from './record.ts';
import type { TlsSession } from './session.ts';

export interface TlsHandshake {
  readonly timeoutMs: number;
  /** Once, from a later turn than the constructor's. */
  onSecure(connection: TlsConnection): void;
  /** Once instead of `onSecure`: TLS_HANDSHAKE with the reason, or TLS_TIMEOUT; connection and socket are closed already. */
  onHandshakeFailed(error: AmbitError): void;
  /** Client: tried when it belongs to the scope of the context; otherwise, or when the server declines, a full handshake. */
  readonly resume?: TlsSession;
}

/** How long a closed connection may still try to send what it had accepted. */
const LINGER_MS = 5000;
const NOT_ENDED = 1;
/** Where input of lingering connections goes. */
let discarded: Arena | undefined;

export class TlsConnection implements ByteChannel, ChannelOwner, TurnTask, LoopOwned {
  readonly tcp: TcpSocket;
  owner: ChannelOwner = NO_OWNER;
  /** Application protocol that was agreed on, empty when none. Valid from `onSecure` on, like the next two. */
  alpn = '';
  /** Key exchange group, for example `X25519MLKEM768`. */
  group = '';
  resumed = false;
  /** Client: told about each session ticket; they arrive with the first reads after the handshake. */
  onSession: ((session: TlsSession) => void) | undefined = undefined;
  /** Why a read or write failed with -EPROTO, in OpenSSL's words. */
  failureReason = '';

  readonly #loop: EventLoop;
  readonly #context: TlsContext;
  #ssl: number;
  #handshake: TlsHandshake | undefined;
  #timer: Timer | undefined;
  #interest = 0;
  /** What OpenSSL itself waits for beyond the owner's wishes (key updates, close_notify). */
  #ownInterest = 0;
  /** The last read found everything empty; nothing is left inside OpenSSL. */
  #drained = true;
  /** The last read emptied OpenSSL and, as far as it could see, the socket, and no event has come since. */
  #dry = false;
  /** The event for bytes left inside is queued. */
  #repeatQueued = false;
  /** Bytes of the write that OpenSSL has sealed partly; the next one must not be shorter. */
  #unfinishedWrite = 0;
  /** How reading ended for good (0 or -errno), repeated by every later read. */
  #readEnd = NOT_ENDED;
  /** How writing failed for good (-errno), repeated by every later write. */
  #writeEnd = NOT_ENDED;
  /** Made for the first write of more than one record. */
  #bulk: BulkOutput | undefined = undefined;
  /** A read waits until an answer to a key update can be written. */
  #readWaitsToWrite = false;
  /** A ticket that OpenSSL met while reading; told after the read, because the owner may close the connection. */
  #newSession: TlsSession | undefined = undefined;
  #shutdownWanted = false;
  #shutdownSent = false;
  /** Set while lingering after `close`. */
  #lingering: Timer | undefined = undefined;

  /** Takes the socket over and starts the handshake in the role of the context. Throws CLOSED or USAGE for wrong use. */
  constructor(loop: EventLoop, socket: TcpSocket, context: TlsContext, handshake: TlsHandshake) {
    if (socket.closed) throw new AmbitError('CLOSED', 'TLS on a closed socket');
    this.tcp = socket;
    this.#loop = loop;
    this.#context = context;
    this.#handshake = handshake;
    this.#ssl = context.openConnection();
    if (ssl.SSL_set_fd(this.#ssl, socket.fd) !== 1) {
      context.closeConnection(this.#ssl);
      throw new AmbitError('SYSTEM_CALL', `SSL_set_fd: ${drainErrors()}`);
    }
    if (context.role === 'client') {
      ssl.SSL_set_connect_state(this.#ssl);
      takeSessions(this.#ssl, (session) => {
        this.#newSession = facts.encodeSession(session, context.scope);
      });
      if (handshake.resume !== undefined) facts.offerSession(this.#ssl, handshake.resume, context.scope);
    } else ssl.SSL_set_accept_state(this.#ssl);
    this.#timer = loop.setTimer(handshake.timeoutMs, () =>
      this.#failHandshake(new AmbitError('TLS_TIMEOUT', `no TLS handshake within ${handshake.timeoutMs} ms`)),
    );
    socket.owner = this;
    socket.setInterest(context.role === 'client' ? WRITABLE : READABLE);
  }

  get closed(): boolean {
    return this.#ssl === 0 || this.#lingering !== undefined;
  }

  /** The peer's certificates as DER, leaf first; after a resumption only the leaf. Encoded anew at each call: keep the result. */
  peerCertificates(): Uint8Array[] {
    return facts.peerCertificates(this.#open(), this.#context.role);
  }

  read(arena: Arena, offset: number, length: number): number {
    const address = arena.addressOf(offset, length);
    const pointer = this.#secure();
    if (length < 1) throw new AmbitError('USAGE', 'a read needs room for at least one byte');
    if (this.#readEnd !== NOT_ENDED) return this.#readEnd;
    if (this.#dry && (this.#interest & READABLE) !== 0) return WOULD_BLOCK;
    const result = this.#readRecords(pointer, address, length);
    if (this.#newSession !== undefined) this.#tellSession(this.#newSession);
    return result;
  }

  write(arena: Arena, offset: number, length: number): number {
    const address = arena.addressOf(offset, length);
    const pointer = this.#secure();
    if (length < this.#unfinishedWrite || this.#shutdownWanted) throw this.#writeMisuse(length);
    if (this.#writeEnd !== NOT_ENDED) return this.#writeEnd;
    if (this.#bulk?.holding === true) return WOULD_BLOCK;
    if (length > RECORD_BYTES && this.#unfinishedWrite === 0) return this.#writeBulk(address, length);
    let total = 0;
    while (total < length) {
      const count = ssl.SSL_write(pointer, address + total, length - total);
      if (count <= 0) {
        const result = this.#failed(count, WRITABLE);
        if (result === WOULD_BLOCK) this.#unfinishedWrite = Math.min(length - total, RECORD_BYTES);
        else this.#writeEnd = result;
        return total > 0 ? total : result;
      }
      total += count;
      this.#unfinishedWrite = 0;
    }
    return total;
  }

  setInterest(interest: number): void {
    this.#open();
    if (interest === this.#interest) return;
    this.#interest = interest;
    this.#dry = false;
    if (this.#handshake !== undefined) return;
    this.tcp.setInterest(interest | this.#ownInterest);
    if ((interest & READABLE) !== 0 && !this.#drained) this.#queueRepeat();
  }

  shutdownWrite(): void {
    if (this.closed || this.#shutdownWanted) return;
    this.#shutdownWanted = true;
    if (this.#handshake === undefined) this.#sendShutdown();
  }

  /**
   * What `write` accepted still reaches the peer: while bytes are on their way, the socket lives on unseen, until the peer has
   * ended too, at most LINGER_MS. (Closing a socket with unread input sends a reset, which would destroy them.)
   */
  close(): void {
    if (this.closed) return;
    const onTheirWay = this.#bulk?.holding === true || unacknowledgedBytes(this.tcp.fd) > 0;
    if (this.#handshake === undefined) this.#sendShutdown();
    if (this.#handshake !== undefined || !onTheirWay) {
      this.#release();
      this.tcp.close();
      return;
    }
    this.#lingering = this.#loop.setTimer(LINGER_MS, () => this.abort());
    this.#loop.own(this);
    this.owner = NO_OWNER;
    this.onSession = undefined;
    this.#interest = READABLE;
    this.tcp.setInterest(READABLE | this.#ownInterest);
  }

  abort(): void {
    if (this.#ssl === 0) return;
    this.#release();
    this.tcp.abort();
  }

  /** For the socket below. */
  onReadable(): void {
    if (this.#handshake !== undefined) {
      this.#advanceHandshake(this.#handshake);
      return;
    }
    if (this.#lingering !== undefined) {
      this.#discardInput();
      return;
    }
    if ((this.#ownInterest & READABLE) !== 0) {
      this.#setOwnInterest(this.#ownInterest & ~READABLE);
      if ((this.#interest & WRITABLE) !== 0) this.owner.onWritable();
    }
    if (this.#ssl !== 0 && (this.#interest & READABLE) !== 0) this.#deliver();
  }

  /** For the socket below. */
  onWritable(): void {
    if (this.#handshake !== undefined) {
      this.#advanceHandshake(this.#handshake);
      return;
    }
    if ((this.#ownInterest & WRITABLE) !== 0 && !this.#sendOwn()) return;
    if (this.#ssl !== 0 && (this.#interest & WRITABLE) !== 0) this.owner.onWritable();
  }

  /** For the socket below. */
  onBroken(number: number): void {
    if (this.#handshake !== undefined)
      this.#failHandshake(new AmbitError('TLS_HANDSHAKE', errnoName(number), { errno: number }));
    else if (this.#lingering !== undefined) this.abort();
    else this.owner.onBroken(number);
  }

  /** For the loop, which closes: the end of lingering. */
  endWithLoop(): void {
    this.#release();
    this.tcp.close();
  }

  /** For the loop: the repeated event for bytes that wait inside OpenSSL. */
  runAtTurnEnd(): void {
    this.#repeatQueued = false;
    if (this.#ssl !== 0 && !this.#drained && (this.#interest & READABLE) !== 0) this.#deliver();
  }

  #readRecords(pointer: number, address: number, length: number): number {
    let total = 0;
    while (total < length) {
      const count = ssl.SSL_read(pointer, address + total, length - total);
      if (count <= 0) {
        const result = this.#failed(count, READABLE);
        this.#drained = result === WOULD_BLOCK || total === 0;
        if (result === WOULD_BLOCK) this.#dry = true;
        else this.#readEnd = result;
        return total > 0 ? total : result;
      }
      total += count;
      this.#drained = ssl.SSL_has_pending(pointer) === 0;
      if (this.#drained) {
        this.#dry = true;
        break;
      }
    }
    return total;
  }

  #tellSession(session: TlsSession): void {
    this.#newSession = undefined;
    this.onSession?.(session);
  }

  /** Sends what OpenSSL itself has to send. False when the owner cannot write yet, or is gone. */
  #sendOwn(): boolean {
    if (this.#bulk?.holding === true && !this.#flushHeld(this.#bulk)) return false;
    this.#setOwnInterest(0);
    if (this.#shutdownWanted) this.#sendShutdown();
    if (this.#readWaitsToWrite) {
      this.#readWaitsToWrite = false;
      if ((this.#interest & READABLE) !== 0) this.#deliver();
    }
    return true;
  }

  #flushHeld(bulk: BulkOutput): boolean {
    const refused = bulk.flush();
    if (refused > 0) return false;
    if (refused < 0) {
      this.#writeEnd = refused;
      this.failureReason = errnoName(-refused);
      bulk.release();
    } else if (this.#shutdownSent) this.tcp.shutdownWrite();
    if (this.#lingering === undefined) return true;
    if (refused === 0) this.#setOwnInterest(0);
    else this.abort();
    return false;
  }

  /** While lingering: waits for the end of the peer, past OpenSSL. */
  #discardInput(): void {
    discarded ??= new Arena(RECORD_BYTES);
    const count = this.tcp.read(discarded, 0, RECORD_BYTES);
    if (count <= 0 && count !== WOULD_BLOCK) this.endWithLoop();
  }

  #writeBulk(address: number, length: number): number {
    this.#bulk ??= new BulkOutput(this.#ssl, this.tcp.fd);
    const bulk = this.#bulk;
    const count = bulk.write(address, length);
    if (bulk.sealResult <= 0) this.#writeEnd = this.#failed(bulk.sealResult, WRITABLE);
    else if (count < 0) {
      this.#writeEnd = count;
      this.failureReason = errnoName(-count);
    }
    if (bulk.holding) this.#setOwnInterest(this.#ownInterest | WRITABLE);
    return count > 0 ? count : this.#writeEnd;
  }

  #deliver(): void {
    this.#dry = false;
    this.owner.onReadable();
    if (this.#ssl !== 0 && !this.#drained && (this.#interest & READABLE) !== 0) this.#queueRepeat();
  }

  #queueRepeat(): void {
    if (this.#repeatQueued) return;
    this.#repeatQueued = true;
    this.#loop.atNextTurn(this);
  }

  #setOwnInterest(interest: number): void {
    if (interest === this.#ownInterest) return;
    this.#ownInterest = interest;
    this.tcp.setInterest(this.#interest | interest);
  }

  #advanceHandshake(handshake: TlsHandshake): void {
    const result = ssl.SSL_do_handshake(this.#ssl);
    if (result === 1) {
      this.#becomeSecure(handshake);
      return;
    }
    const outcome = outcomeOf(this.#ssl, result);
    if (outcome === WANTS_READ) this.tcp.setInterest(READABLE);
    else if (outcome === WANTS_WRITE) this.tcp.setInterest(READABLE | WRITABLE);
    else if (outcome === ENDED) this.#failHandshake(new AmbitError('TLS_HANDSHAKE', 'the peer closed the connection'));
    else this.#failHandshake(new AmbitError('TLS_HANDSHAKE', outcomeReason, { errno: -outcome }));
  }

  #becomeSecure(handshake: TlsHandshake): void {
    this.resumed = ssl.SSL_session_reused(this.#ssl) === 1;
    if (this.resumed && facts.peerCertificateExpired(this.#ssl)) {
      this.#failHandshake(new AmbitError('TLS_HANDSHAKE', 'resumed session: certificate has expired'));
      return;
    }
    this.#handshake = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.alpn = facts.agreedProtocol(this.#ssl);
    this.group = facts.agreedGroup(this.#ssl);
    this.#drained = ssl.SSL_has_pending(this.#ssl) === 0;
    handshake.onSecure(this);
    if (this.#ssl === 0) return;
    this.tcp.setInterest(this.#interest | this.#ownInterest);
    if (!this.#drained && (this.#interest & READABLE) !== 0) this.#queueRepeat();
    if (this.#shutdownWanted) this.#sendShutdown();
  }

  #failHandshake(error: AmbitError): void {
    const handshake = this.#handshake;
    if (handshake === undefined) return;
    drainErrors();
    this.#release();
    this.tcp.shutdownWrite();
    this.tcp.close();
    handshake.onHandshakeFailed(error);
  }

  /** Result for the owner of a failed SSL_read or SSL_write; `wanted` is what the owner waits for itself after WOULD_BLOCK. */
  #failed(result: number, wanted: number): number {
    const outcome = outcomeOf(this.#ssl, result);
    if (outcome === WANTS_READ) {
      if (wanted === WRITABLE) this.#setOwnInterest(this.#ownInterest | READABLE);
      return WOULD_BLOCK;
    }
    if (outcome === WANTS_WRITE) {
      if (wanted === READABLE) {
        this.#readWaitsToWrite = true;
        this.#setOwnInterest(this.#ownInterest | WRITABLE);
      }
      return WOULD_BLOCK;
    }
    if (outcome === ENDED) return wanted === READABLE ? 0 : -EPIPE;
    this.failureReason = outcomeReason;
    return outcome;
  }

  #writeMisuse(length: number): AmbitError {
    return new AmbitError(
      'USAGE',
      this.#shutdownWanted
        ? 'write after shutdownWrite'
        : `write of ${length} bytes although ${this.#unfinishedWrite} were sealed`,
    );
  }

  #sendShutdown(): void {
    if (this.#shutdownSent) return;
    const result = ssl.SSL_shutdown(this.#ssl);
    if (result < 0 && ssl.SSL_get_error(this.#ssl, result) === SSL_ERROR_WANT_WRITE) {
      this.#shutdownWanted = true;
      this.#setOwnInterest(this.#ownInterest | WRITABLE);
      return;
    }
    drainErrors();
    this.#shutdownSent = true;
    if (this.#bulk?.holding !== true) this.tcp.shutdownWrite();
  }

  #release(): void {
    const pointer = this.#ssl;
    this.#ssl = 0;
    this.#handshake = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#lingering !== undefined) this.#loop.disown(this);
    this.#lingering?.cancel();
    this.#lingering = undefined;
    this.#bulk?.release();
    this.#bulk = undefined;
    this.owner = NO_OWNER;
    this.onSession = undefined;
    if (this.#context.role === 'client') forgetSessions(pointer);
    this.#context.closeConnection(pointer);
  }

  #open(): number {
    if (this.closed) throw new AmbitError('CLOSED', 'TLS connection used after it was closed');
    return this.#ssl;
  }

  #secure(): number {
    if (this.#handshake !== undefined) throw new AmbitError('USAGE', 'TLS connection used before its handshake ended');
    return this.#open();
  }
}
