/** Certificates and keys from PEM text in memory into an SSL_CTX, and certificates out as DER. */
import { AmbitError } from '../../core/errors.ts';
import { allocateBlock, blockFrom, releaseBlock } from './memory.ts';
import { drainErrors } from './openssl-errors.ts';
import { CTRL_CHAIN_CERTIFICATE, ssl } from './openssl-library.ts';

const MAX_CERTIFICATES = 64;
const MAX_PEM_BYTES = 1 << 20;
/** `char password[1] = ""`: an encrypted key is refused instead of asking on the terminal. */
const emptyPassword = allocateBlock(1);

/** The first certificate becomes the leaf, the others its chain. Throws CONFIGURATION. */
export function useCertificateChain(context: number, pem: string): void {
  const count = eachCertificate(pem, 'certificate chain', (certificate, index) =>
    index === 0
      ? ssl.SSL_CTX_use_certificate(context, certificate) === 1
      : ssl.SSL_CTX_ctrl(context, CTRL_CHAIN_CERTIFICATE, 1, certificate) === 1,
  );
  if (count === 0) throw new AmbitError('CONFIGURATION', 'the certificate chain holds no certificate');
}

/** Only these certificates are trusted. Throws CONFIGURATION. */
export function trustRoots(context: number, pem: string): void {
  const store = ssl.SSL_CTX_get_cert_store(context);
  const count = eachCertificate(pem, 'roots', (certificate) => ssl.X509_STORE_add_cert(store, certificate) === 1);
  if (count === 0) throw new AmbitError('CONFIGURATION', 'the roots hold no certificate');
}

/** The private key of the leaf, which must be in use already. Throws CONFIGURATION. */
export function usePrivateKey(context: number, pem: string): void {
  withBio(pem, 'private key', (bio) => {
    const key = ssl.PEM_read_bio_PrivateKey(bio, 0, 0, emptyPassword.address);
    if (key === 0) throw configurationError('private key');
    const used = ssl.SSL_CTX_use_PrivateKey(context, key);
    ssl.EVP_PKEY_free(key);
    if (used !== 1 || ssl.SSL_CTX_check_private_key(context) !== 1) throw configurationError('private key');
  });
}

/** DER of an X509 that the caller holds. */
export function certificateToDer(certificate: number): Buffer {
  const length = ssl.i2d_X509(certificate, 0);
  if (length <= 0) throw new AmbitError('USAGE', `certificate cannot be encoded: ${drainErrors()}`);
  const der = allocateBlock(length);
  const cursor = allocateBlock(8);
  cursor.bytes.writeBigUInt64LE(BigInt(der.address));
  ssl.i2d_X509(certificate, cursor.address);
  return der.bytes;
}

function eachCertificate(pem: string, what: string, use: (certificate: number, index: number) => boolean): number {
  let count = 0;
  withBio(pem, what, (bio) => {
    for (; count < MAX_CERTIFICATES; count++) {
      const certificate = ssl.PEM_read_bio_X509(bio, 0, 0, emptyPassword.address);
      if (certificate === 0) break;
      const used = use(certificate, count);
      ssl.X509_free(certificate);
      if (!used) throw configurationError(what);
    }
    const reason = drainErrors();
    if (reason !== '' && reason !== 'no start line') throw new AmbitError('CONFIGURATION', `${what}: ${reason}`);
  });
  return count;
}

function withBio(pem: string, what: string, work: (bio: number) => void): void {
  const bytes = Buffer.from(pem);
  if (bytes.length > MAX_PEM_BYTES) throw new AmbitError('CONFIGURATION', `${what}: ${bytes.length} bytes of PEM`);
  const block = blockFrom(bytes);
  const bio = ssl.BIO_new_mem_buf(block.address, bytes.length);
  try {
    if (bio === 0) throw configurationError(what);
    work(bio);
  } finally {
    if (bio !== 0) ssl.BIO_free(bio);
    block.bytes.fill(0);
    releaseBlock(block);
    bytes.fill(0);
  }
}

function configurationError(what: string): AmbitError {
  return new AmbitError('CONFIGURATION', `${what}: ${drainErrors() || 'not usable'}`);
}
