/** TokenReview (authentication.k8s.io/v1): the question, and the caller that an answer names. Pure. */
import { boolean, decode, list, object, optional, record, string, withDefault } from '../../core/decoder.ts';
import { AmbitError } from '../../core/errors.ts';
import type { Caller } from '../authentication.ts';

/** The object to post. */
export function tokenReview(token: string, audiences: readonly string[]): unknown {
  return { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token, audiences } };
}

const answer = object(
  {
    status: object(
      {
        authenticated: withDefault(boolean, false),
        error: withDefault(string, ''),
        audiences: withDefault(list(string), []),
        user: optional(
          object(
            {
              username: withDefault(string, ''),
              groups: withDefault(list(string), []),
              extra: withDefault(record(list(string)), new Map<string, string[]>()),
            },
            'ignore',
          ),
        ),
      },
      'ignore',
    ),
  },
  'ignore',
);

const SUBJECT =
  /^system:serviceaccount:([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?):([a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)$/;
const SERVICE_ACCOUNTS = 'system:serviceaccounts';
const EXTRA = 'authentication.kubernetes.io/';

/**
 * The caller of a reviewed token that ends at `expiresMs`. The node counts only together with a pod: a token that is
 * bound to a node and no pod could be anybody's there. Throws AUTHENTICATION.
 */
export function callerOfReview(body: unknown, audiences: readonly string[], expiresMs: number): Caller {
  const decoded = decode(answer, body);
  if (!decoded.ok) {
    const [problem] = decoded.problems;
    throw new AmbitError('AUTHENTICATION', `the review cannot be read: ${problem?.path.join('.')} ${problem?.reason}`);
  }
  const { status } = decoded.value;
  if (!status.authenticated || status.user === undefined) {
    throw new AmbitError('AUTHENTICATION', `the API server does not accept the token: ${status.error || 'no reason'}`);
  }
  // A server that does not know audiences names none and has not checked them.
  if (!status.audiences.some((audience) => audiences.includes(audience))) {
    throw new AmbitError('AUTHENTICATION', `the token is not for the audience ${audiences.join(' or ')}`);
  }
  const { username, groups, extra } = status.user;
  const match = SUBJECT.exec(username);
  if (match?.[1] === undefined || match[2] === undefined || !groups.includes(SERVICE_ACCOUNTS)) {
    throw new AmbitError('AUTHENTICATION', `${username.slice(0, 300)} is not a service account`);
  }
  const only = (key: string): string | undefined => {
    const values = extra.get(`${EXTRA}${key}`);
    return values?.length === 1 && values[0] !== '' ? values[0] : undefined;
  };
  const [name, uid] = [only('pod-name'), only('pod-uid')];
  const pod = name === undefined || uid === undefined ? undefined : { name, uid };
  const node = pod === undefined ? undefined : only('node-name');
  return { namespace: match[1], serviceAccount: match[2], node, pod, how: 'token', expiresMs };
}
