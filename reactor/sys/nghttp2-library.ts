/**
 * Symbols, constants and callback prototypes of the nghttp2 that Node carries (nghttp2.h of 1.70). Only `nghttp2.ts`
 * uses this file. Every function has its exact arity in its type: calling a native function through a rest-argument
 * wrapper makes V8's optimising compiler abort the process (seen with Node 26.10), so none exists here.
 */
import koffi from 'koffi';

const library = koffi.load(null);
const libc = koffi.load('libc.so.6');

koffi.proto(
  'int AmbitH2Header(uintptr_t session, uintptr_t frame, uintptr_t name, size_t nameLength, uintptr_t value, size_t valueLength, uint8 flags, uintptr_t user)',
);
koffi.proto('int AmbitH2Frame(uintptr_t session, uintptr_t frame, uintptr_t user)');
koffi.proto('int AmbitH2Invalid(uintptr_t session, uintptr_t frame, int code, uintptr_t user)');
koffi.proto(
  'int AmbitH2Data(uintptr_t session, uint8 flags, int32 stream, uintptr_t data, size_t length, uintptr_t user)',
);
koffi.proto('int AmbitH2Close(uintptr_t session, int32 stream, uint32 code, uintptr_t user)');
koffi.proto(
  'long AmbitH2Read(uintptr_t session, int32 stream, uintptr_t buffer, size_t length, uintptr_t flags, uintptr_t source, uintptr_t user)',
);

type Address = number;

/** What the binding calls; results are C ints unless said otherwise. */
export interface Nghttp2Library {
  callbacksNew(out: Uint8Array): number;
  setOnFrame(callbacks: Address, callback: bigint): void;
  setOnInvalidFrame(callbacks: Address, callback: bigint): void;
  setOnData(callbacks: Address, callback: bigint): void;
  setOnHeader(callbacks: Address, callback: bigint): void;
  setOnStreamClose(callbacks: Address, callback: bigint): void;
  optionNew(out: Uint8Array): number;
  optionNoAutoWindowUpdate(option: Address, value: number): void;
  optionPeerMaxStreams(option: Address, value: number): void;
  optionMaxContinuations(option: Address, value: number): void;
  optionMaxSettings(option: Address, value: number): void;
  optionMaxOutboundAck(option: Address, value: number): void;
  optionStreamResetRate(option: Address, burst: number, rate: number): void;
  clientNew(out: Uint8Array, callbacks: Address, user: number, option: Address): number;
  serverNew(out: Uint8Array, callbacks: Address, user: number, option: Address): number;
  del(session: Address): void;
  receive(session: Address, data: Address, length: number): number;
  send(session: Address, out: Uint8Array): number;
  wantRead(session: Address): number;
  wantWrite(session: Address): number;
  submitSettings(session: Address, flags: number, entries: Uint8Array, count: number): number;
  setLocalWindow(session: Address, flags: number, stream: number, size: number): number;
  submitHeaders(
    session: Address,
    flags: number,
    stream: number,
    priority: null,
    pairs: Address,
    count: number,
    user: number,
  ): number;
  submitData(session: Address, flags: number, stream: number, provider: Uint8Array): number;
  submitReset(session: Address, flags: number, stream: number, code: number): number;
  submitPing(session: Address, flags: number, opaque: Uint8Array): number;
  submitGoaway(
    session: Address,
    flags: number,
    lastStream: number,
    code: number,
    data: Uint8Array | null,
    length: number,
  ): number;
  submitShutdownNotice(session: Address): number;
  terminate(session: Address, code: number): number;
  consumeConnection(session: Address, size: number): number;
  consumeStream(session: Address, stream: number, size: number): number;
  remoteSetting(session: Address, id: number): number;
  lastProcessedStream(session: Address): number;
  memcpy(to: Address, from: Address, length: number): void;
}

const session = 'uintptr_t session';

export const nghttp2: Nghttp2Library = {
  callbacksNew: library.func('int nghttp2_session_callbacks_new(void *out)'),
  setOnFrame: library.func(
    'void nghttp2_session_callbacks_set_on_frame_recv_callback(uintptr_t callbacks, AmbitH2Frame *callback)',
  ),
  setOnInvalidFrame: library.func(
    'void nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(uintptr_t callbacks, AmbitH2Invalid *callback)',
  ),
  setOnData: library.func(
    'void nghttp2_session_callbacks_set_on_data_chunk_recv_callback(uintptr_t callbacks, AmbitH2Data *callback)',
  ),
  setOnHeader: library.func(
    'void nghttp2_session_callbacks_set_on_header_callback(uintptr_t callbacks, AmbitH2Header *callback)',
  ),
  setOnStreamClose: library.func(
    'void nghttp2_session_callbacks_set_on_stream_close_callback(uintptr_t callbacks, AmbitH2Close *callback)',
  ),
  optionNew: library.func('int nghttp2_option_new(void *out)'),
  optionNoAutoWindowUpdate: library.func('void nghttp2_option_set_no_auto_window_update(uintptr_t option, int value)'),
  optionPeerMaxStreams: library.func(
    'void nghttp2_option_set_peer_max_concurrent_streams(uintptr_t option, uint32 value)',
  ),
  optionMaxContinuations: library.func('void nghttp2_option_set_max_continuations(uintptr_t option, size_t value)'),
  optionMaxSettings: library.func('void nghttp2_option_set_max_settings(uintptr_t option, size_t value)'),
  optionMaxOutboundAck: library.func('void nghttp2_option_set_max_outbound_ack(uintptr_t option, size_t value)'),
  optionStreamResetRate: library.func(
    'void nghttp2_option_set_stream_reset_rate_limit(uintptr_t option, uint64 burst, uint64 rate)',
  ),
  clientNew: library.func(
    'int nghttp2_session_client_new2(void *out, uintptr_t callbacks, uintptr_t user, uintptr_t option)',
  ),
  serverNew: library.func(
    'int nghttp2_session_server_new2(void *out, uintptr_t callbacks, uintptr_t user, uintptr_t option)',
  ),
  del: library.func(`void nghttp2_session_del(${session})`),
  receive: library.func(`long nghttp2_session_mem_recv2(${session}, uintptr_t data, size_t length)`),
  send: library.func(`long nghttp2_session_mem_send2(${session}, void *out)`),
  wantRead: library.func(`int nghttp2_session_want_read(${session})`),
  wantWrite: library.func(`int nghttp2_session_want_write(${session})`),
  submitSettings: library.func(`int nghttp2_submit_settings(${session}, uint8 flags, void *entries, size_t count)`),
  setLocalWindow: library.func(
    `int nghttp2_session_set_local_window_size(${session}, uint8 flags, int32 stream, int32 size)`,
  ),
  submitHeaders: library.func(
    `int32 nghttp2_submit_headers(${session}, uint8 flags, int32 stream, void *priority, uintptr_t pairs, size_t count, uintptr_t user)`,
  ),
  submitReset: library.func(`int nghttp2_submit_rst_stream(${session}, uint8 flags, int32 stream, uint32 code)`),
  submitPing: library.func(`int nghttp2_submit_ping(${session}, uint8 flags, void *opaque)`),
  submitGoaway: library.func(
    `int nghttp2_submit_goaway(${session}, uint8 flags, int32 lastStream, uint32 code, void *data, size_t length)`,
  ),
  submitShutdownNotice: library.func(`int nghttp2_submit_shutdown_notice(${session})`),
  terminate: library.func(`int nghttp2_session_terminate_session(${session}, uint32 code)`),
  submitData: library.func(`int nghttp2_submit_data2(${session}, uint8 flags, int32 stream, void *provider)`),
  consumeConnection: library.func(`int nghttp2_session_consume_connection(${session}, size_t size)`),
  consumeStream: library.func(`int nghttp2_session_consume_stream(${session}, int32 stream, size_t size)`),
  remoteSetting: library.func(`uint32 nghttp2_session_get_remote_settings(${session}, int id)`),
  lastProcessedStream: library.func(`int32 nghttp2_session_get_last_proc_stream_id(${session})`),
  memcpy: libc.func('void memcpy(uintptr_t to, uintptr_t from, size_t length)'),
};

export type CallbackPrototype =
  | 'AmbitH2Header'
  | 'AmbitH2Frame'
  | 'AmbitH2Invalid'
  | 'AmbitH2Data'
  | 'AmbitH2Close'
  | 'AmbitH2Read';

/** Registers a C callback for the life of the thread and gives its address. */
export function registerCallback(handler: (...values: number[]) => number, prototype: CallbackPrototype): bigint {
  return koffi.register(handler, `${prototype} *`);
}

/** Text of `length` bytes at a native address (header names and values, which the engine has validated). */
export function textAt(address: number, length: number): string {
  return length === 0 ? '' : koffi.decode.string(address, length);
}

/** Error codes of the engine (negative results). */
export const ERR_TEMPORAL_CALLBACK_FAILURE = -521;
export const ERR_CALLBACK_FAILURE = -902;
