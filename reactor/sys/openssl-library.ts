/**
 * The functions of the OpenSSL (3.5) that Node.js carries, as far as the reactor uses them, and its constants.
 * Pointers are numbers; 0 is NULL. Ownership rules are OpenSSL's: `get0` borrows, `get1` and `new` own, `free` gives back.
 */
import { native } from './ffi.ts';

type Pointer = number;

export const ssl = {
  // Contexts.
  TLS_method: native<() => Pointer>('uintptr_t TLS_method()'),
  SSL_CTX_new: native<(method: Pointer) => Pointer>('uintptr_t SSL_CTX_new(uintptr_t)'),
  SSL_CTX_free: native<(context: Pointer) => void>('void SSL_CTX_free(uintptr_t)'),
  SSL_CTX_ctrl: native<(context: Pointer, command: number, number: number, pointer: Pointer) => number>(
    'int SSL_CTX_ctrl(uintptr_t, int, long, uintptr_t)',
  ),
  SSL_CTX_set_options: native<(context: Pointer, options: number) => number>(
    'uint64_t SSL_CTX_set_options(uintptr_t, uint64_t)',
  ),
  SSL_CTX_set_ciphersuites: native<(context: Pointer, names: string) => number>(
    'int SSL_CTX_set_ciphersuites(uintptr_t, const char *)',
  ),
  SSL_CTX_set_default_read_buffer_len: native<(context: Pointer, length: number) => void>(
    'void SSL_CTX_set_default_read_buffer_len(uintptr_t, size_t)',
  ),
  SSL_CTX_set_verify: native<(context: Pointer, mode: number, callback: Pointer) => void>(
    'void SSL_CTX_set_verify(uintptr_t, int, uintptr_t)',
  ),
  SSL_CTX_use_certificate: native<(context: Pointer, certificate: Pointer) => number>(
    'int SSL_CTX_use_certificate(uintptr_t, uintptr_t)',
  ),
  SSL_CTX_use_PrivateKey: native<(context: Pointer, key: Pointer) => number>(
    'int SSL_CTX_use_PrivateKey(uintptr_t, uintptr_t)',
  ),
  SSL_CTX_check_private_key: native<(context: Pointer) => number>('int SSL_CTX_check_private_key(uintptr_t)'),
  SSL_CTX_get_cert_store: native<(context: Pointer) => Pointer>('uintptr_t SSL_CTX_get_cert_store(uintptr_t)'),
  SSL_CTX_set_session_id_context: native<(context: Pointer, bytes: Pointer, length: number) => number>(
    'int SSL_CTX_set_session_id_context(uintptr_t, uintptr_t, uint)',
  ),
  SSL_CTX_set_num_tickets: native<(context: Pointer, count: number) => number>(
    'int SSL_CTX_set_num_tickets(uintptr_t, size_t)',
  ),
  SSL_CTX_set_timeout: native<(context: Pointer, seconds: number) => number>(
    'long SSL_CTX_set_timeout(uintptr_t, long)',
  ),
  SSL_CTX_set_alpn_protos: native<(context: Pointer, list: Pointer, length: number) => number>(
    'int SSL_CTX_set_alpn_protos(uintptr_t, uintptr_t, uint)',
  ),
  SSL_CTX_set_alpn_select_cb: native<(context: Pointer, callback: bigint, argument: Pointer) => void>(
    'void SSL_CTX_set_alpn_select_cb(uintptr_t, void *, uintptr_t)',
  ),
  SSL_CTX_sess_set_new_cb: native<(context: Pointer, callback: bigint) => void>(
    'void SSL_CTX_sess_set_new_cb(uintptr_t, void *)',
  ),
  // Connections.
  SSL_new: native<(context: Pointer) => Pointer>('uintptr_t SSL_new(uintptr_t)'),
  SSL_free: native<(ssl: Pointer) => void>('void SSL_free(uintptr_t)'),
  SSL_set_fd: native<(ssl: Pointer, fd: number) => number>('int SSL_set_fd(uintptr_t, int)'),
  SSL_set_connect_state: native<(ssl: Pointer) => void>('void SSL_set_connect_state(uintptr_t)'),
  SSL_set_accept_state: native<(ssl: Pointer) => void>('void SSL_set_accept_state(uintptr_t)'),
  SSL_do_handshake: native<(ssl: Pointer) => number>('int SSL_do_handshake(uintptr_t)'),
  SSL_read: native<(ssl: Pointer, address: Pointer, length: number) => number>(
    'int SSL_read(uintptr_t, uintptr_t, int)',
  ),
  SSL_write: native<(ssl: Pointer, address: Pointer, length: number) => number>(
    'int SSL_write(uintptr_t, uintptr_t, int)',
  ),
  SSL_get_rbio: native<(ssl: Pointer) => Pointer>('uintptr_t SSL_get_rbio(uintptr_t)'),
  SSL_set0_wbio: native<(ssl: Pointer, bio: Pointer) => void>('void SSL_set0_wbio(uintptr_t, uintptr_t)'),
  SSL_get_error: native<(ssl: Pointer, result: number) => number>('int SSL_get_error(uintptr_t, int)'),
  SSL_has_pending: native<(ssl: Pointer) => number>('int SSL_has_pending(uintptr_t)'),
  SSL_shutdown: native<(ssl: Pointer) => number>('int SSL_shutdown(uintptr_t)'),
  SSL_ctrl: native<(ssl: Pointer, command: number, number: number, pointer: Pointer) => number>(
    'int SSL_ctrl(uintptr_t, int, long, uintptr_t)',
  ),
  SSL_group_to_name: native<(ssl: Pointer, group: number) => string | null>(
    'const char *SSL_group_to_name(uintptr_t, int)',
  ),
  SSL_get0_alpn_selected: native<(ssl: Pointer, list: Pointer, length: Pointer) => void>(
    'void SSL_get0_alpn_selected(uintptr_t, uintptr_t, uintptr_t)',
  ),
  SSL_get_verify_result: native<(ssl: Pointer) => number>('long SSL_get_verify_result(uintptr_t)'),
  SSL_get0_peer_certificate: native<(ssl: Pointer) => Pointer>('uintptr_t SSL_get0_peer_certificate(uintptr_t)'),
  SSL_get_peer_cert_chain: native<(ssl: Pointer) => Pointer>('uintptr_t SSL_get_peer_cert_chain(uintptr_t)'),
  // Sessions.
  SSL_session_reused: native<(ssl: Pointer) => number>('int SSL_session_reused(uintptr_t)'),
  SSL_set_session: native<(ssl: Pointer, session: Pointer) => number>('int SSL_set_session(uintptr_t, uintptr_t)'),
  SSL_SESSION_free: native<(session: Pointer) => void>('void SSL_SESSION_free(uintptr_t)'),
  i2d_SSL_SESSION: native<(session: Pointer, target: Pointer) => number>('int i2d_SSL_SESSION(uintptr_t, uintptr_t)'),
  d2i_SSL_SESSION: native<(session: Pointer, source: Pointer, length: number) => Pointer>(
    'uintptr_t d2i_SSL_SESSION(uintptr_t, uintptr_t, long)',
  ),
  // Certificates and keys.
  BIO_new_mem_buf: native<(address: Pointer, length: number) => Pointer>('uintptr_t BIO_new_mem_buf(uintptr_t, int)'),
  BIO_up_ref: native<(bio: Pointer) => number>('int BIO_up_ref(uintptr_t)'),
  BIO_write: native<(bio: Pointer, address: Pointer, length: number) => number>(
    'int BIO_write(uintptr_t, uintptr_t, int)',
  ),
  BIO_new_bio_pair: native<(first: Pointer, firstRoom: number, second: Pointer, secondRoom: number) => number>(
    'int BIO_new_bio_pair(uintptr_t, size_t, uintptr_t, size_t)',
  ),
  BIO_nread0: native<(bio: Pointer, address: Pointer) => number>('int BIO_nread0(uintptr_t, uintptr_t)'),
  BIO_nread: native<(bio: Pointer, address: Pointer, length: number) => number>(
    'int BIO_nread(uintptr_t, uintptr_t, int)',
  ),
  BIO_free: native<(bio: Pointer) => number>('int BIO_free(uintptr_t)'),
  PEM_read_bio_X509: native<(bio: Pointer, target: Pointer, callback: Pointer, argument: Pointer) => Pointer>(
    'uintptr_t PEM_read_bio_X509(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
  ),
  PEM_read_bio_PrivateKey: native<(bio: Pointer, target: Pointer, callback: Pointer, password: Pointer) => Pointer>(
    'uintptr_t PEM_read_bio_PrivateKey(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
  ),
  EVP_PKEY_free: native<(key: Pointer) => void>('void EVP_PKEY_free(uintptr_t)'),
  X509_free: native<(certificate: Pointer) => void>('void X509_free(uintptr_t)'),
  X509_STORE_add_cert: native<(store: Pointer, certificate: Pointer) => number>(
    'int X509_STORE_add_cert(uintptr_t, uintptr_t)',
  ),
  X509_get0_notAfter: native<(certificate: Pointer) => Pointer>('uintptr_t X509_get0_notAfter(uintptr_t)'),
  X509_cmp_current_time: native<(time: Pointer) => number>('int X509_cmp_current_time(uintptr_t)'),
  i2d_X509: native<(certificate: Pointer, target: Pointer) => number>('int i2d_X509(uintptr_t, uintptr_t)'),
  OPENSSL_sk_num: native<(stack: Pointer) => number>('int OPENSSL_sk_num(uintptr_t)'),
  OPENSSL_sk_value: native<(stack: Pointer, index: number) => Pointer>('uintptr_t OPENSSL_sk_value(uintptr_t, int)'),
  // Errors.
  ERR_get_error: native<() => number>('ulong ERR_get_error()'),
  ERR_reason_error_string: native<(code: number) => string | null>('const char *ERR_reason_error_string(ulong)'),
  X509_verify_cert_error_string: native<(code: number) => string | null>(
    'const char *X509_verify_cert_error_string(long)',
  ),
};

export const SSL_ERROR_SSL = 1;
export const SSL_ERROR_WANT_READ = 2;
export const SSL_ERROR_WANT_WRITE = 3;
export const SSL_ERROR_ZERO_RETURN = 6;

/** Modes: writes may be partial, may be repeated from another address, and idle buffers are given back. */
export const MODE_PARTIAL_WRITE = 1;
export const MODE_MOVING_WRITE_BUFFER = 2;
export const MODE_RELEASE_BUFFERS = 16;

export const CTRL_MODE = 33;
export const CTRL_READ_AHEAD = 41;
export const CTRL_SESSION_CACHE_MODE = 44;
export const CTRL_TICKET_KEYS = 59;
export const CTRL_CHAIN_CERTIFICATE = 89;
export const CTRL_GROUPS_LIST = 92;
export const CTRL_MIN_PROTOCOL = 123;
export const CTRL_MAX_PROTOCOL = 124;
export const CTRL_NEGOTIATED_GROUP = 134;

export const TLS1_3 = 0x304;
export const VERIFY_PEER_REQUIRED = 3;
export const SESSION_CACHE_OFF = 0;
/** Client cache without OpenSSL's own storage: new sessions are only handed to the callback. */
export const SESSION_CACHE_CLIENT_CALLBACK = 0x301;
export const OP_CIPHER_SERVER_PREFERENCE = 0x400000;
export const OP_NO_RENEGOTIATION = 0x40000000;
/** Certificate compression (RFC 8879), each direction: OpenSSL would run Brotli anew in every handshake. */
export const OP_NO_TX_CERTIFICATE_COMPRESSION = 2 ** 32;
export const OP_NO_RX_CERTIFICATE_COMPRESSION = 2 ** 33;
export const TLSEXT_ERR_OK = 0;
export const TLSEXT_ERR_ALERT_FATAL = 2;
