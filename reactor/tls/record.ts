/** Largest plaintext of a TLS record (RFC 8446 section 5.1). */
export const RECORD_BYTES = 16_384;
