/**
 * Tokens of callers: JSON Web Tokens (RFC 7519) signed with ES256 by a key that the operator or the sandbox holds.
 *
 * Claims: `sub` = `system:serviceaccount:<namespace>:<service account>`, `aud` = `istio-ca`, `node` (agents only),
 * `iat`, `exp`. The key is a P-256 private key in PKCS#8 PEM; whoever verifies needs only its public half.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { Metadata } from '@grpc/grpc-js';
import { jwtVerify, SignJWT } from 'jose';
import { AmbitError, toAmbitError } from '../core/errors.ts';
import { type Authenticator, bearerToken, type Caller } from './authentication.ts';
import { createFileAtomically, readIfPresent } from './files.ts';

export const TOKEN_AUDIENCE = 'istio-ca';
const ALGORITHM = 'ES256';
const ISSUER = 'ambit';
const CLOCK_TOLERANCE_SECONDS = 5;

export interface TokenSubject {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Given for an agent: the node it may ask identities for. */
  readonly node?: string;
}

/** Reads the signing key of a PEM file; makes one (mode 0600) when there is none. Safe when two processes begin at once. */
export function openTokenKey(path: string): KeyObject {
  if (readIfPresent(path) === undefined) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    createFileAtomically(path, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), 0o600);
  }
  return readTokenKey(path);
}

/** As `openTokenKey`, but never makes a key: nobody would believe its tokens. */
export function readTokenKey(path: string): KeyObject {
  const pem = readIfPresent(path);
  if (pem === undefined) throw new AmbitError('CONFIGURATION', `there is no token key at ${path}`);
  return parseKey(pem, path);
}

/** Signs a token. `lifetimeMs` counts from now. */
export function mintToken(
  key: KeyObject,
  subject: TokenSubject,
  lifetimeMs: number,
  nowMs = Date.now(),
): Promise<string> {
  const issued = Math.floor(nowMs / 1000);
  return new SignJWT(subject.node === undefined ? {} : { node: subject.node })
    .setProtectedHeader({ alg: ALGORITHM })
    .setIssuer(ISSUER)
    .setAudience(TOKEN_AUDIENCE)
    .setSubject(`system:serviceaccount:${subject.namespace}:${subject.serviceAccount}`)
    .setIssuedAt(issued)
    .setExpirationTime(issued + Math.ceil(lifetimeMs / 1000))
    .sign(key);
}

/** As `mintToken` with the key of a file: what a command line needs to give an agent its token. */
export function mintAgentToken(keyPath: string, subject: Required<TokenSubject>, lifetimeMs: number): Promise<string> {
  return mintToken(openTokenKey(keyPath), subject, lifetimeMs);
}

/** Accepts tokens signed by the private half of `key` (either half may be given). */
export class TokenAuthenticator implements Authenticator {
  readonly #publicKey: KeyObject;

  constructor(key: KeyObject) {
    this.#publicKey = key.type === 'private' ? createPublicKey(key) : key;
  }

  async authenticate(metadata: Metadata): Promise<Caller> {
    const token = bearerToken(metadata);
    try {
      const { payload } = await jwtVerify(token, this.#publicKey, {
        algorithms: [ALGORITHM],
        audience: TOKEN_AUDIENCE,
        issuer: ISSUER,
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        requiredClaims: ['sub', 'exp', 'iat'],
      });
      return callerOf(payload);
    } catch (thrown) {
      throw new AmbitError('AUTHENTICATION', `token refused: ${toAmbitError(thrown, 'AUTHENTICATION').message}`);
    }
  }
}

const SUBJECT =
  /^system:serviceaccount:([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?):([a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)$/;
const NODE = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

function callerOf(claims: { readonly sub?: unknown; readonly exp?: unknown; readonly node?: unknown }): Caller {
  const match = typeof claims.sub === 'string' ? SUBJECT.exec(claims.sub) : null;
  if (match?.[1] === undefined || match[2] === undefined)
    throw new AmbitError('AUTHENTICATION', 'not a service account');
  if (claims.node !== undefined && (typeof claims.node !== 'string' || !NODE.test(claims.node))) {
    throw new AmbitError('AUTHENTICATION', 'the node claim is not a name');
  }
  const expires = typeof claims.exp === 'number' ? claims.exp * 1000 : 0;
  return { namespace: match[1], serviceAccount: match[2], node: claims.node, how: 'token', expiresMs: expires };
}

function parseKey(pem: string, path: string): KeyObject {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return key;
  } catch (thrown) {
    throw new AmbitError('CONFIGURATION', `${path} is not a private key in PEM`, { cause: thrown });
  }
  throw new AmbitError('CONFIGURATION', `${path} must hold a P-256 key`);
}
