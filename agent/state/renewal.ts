/** When a certificate is renewed. */
import type { IssuedCertificate } from './issued-certificate.ts';

/** Share of the lifetime by which renewals of equal certificates are spread. */
const JITTER = 0.05;
const LONGEST_RETRY_MS = 60_000;
const SHORTEST_RETRY_MS = 1_000;

/**
 * Half of the lifetime after its start, give or take `JITTER`; but for a certificate that was already older when it
 * came (from a folder nobody renewed), a part of what is left, so that it is looked at again without haste.
 */
export function renewalTimeMs(certificate: IssuedCertificate, nowMs: number, random: () => number): number {
  const { notBeforeMs, notAfterMs } = certificate;
  const middleMs = notBeforeMs + (notAfterMs - notBeforeMs) * (0.5 + JITTER * (2 * random() - 1));
  const soonMs = Math.max(SHORTEST_RETRY_MS, Math.min((notAfterMs - nowMs) / 4, LONGEST_RETRY_MS));
  return Math.max(middleMs, nowMs + soonMs);
}
