/** Checks that a byte stream is nothing but TLS records (RFC 8446 section 5.1), fed in pieces of any size. */

const HEADER_BYTES = 5;
/** RFC 8446 section 5.2: 2^14 and up to 256 bytes more for the encryption. */
const MAX_RECORD_BYTES = 16_384 + 256;
const FIRST_TYPE = 20;
const LAST_TYPE = 23;

export class TlsRecordChecker {
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #bodyBytes = 0;
  #isTls = true;

  /** False from the first byte on that cannot belong to a TLS record. */
  get isTls(): boolean {
    return this.#isTls;
  }

  push(bytes: Buffer): void {
    let offset = 0;
    while (this.#isTls && offset < bytes.length) {
      if (this.#bodyBytes > 0) {
        const step = Math.min(this.#bodyBytes, bytes.length - offset);
        this.#bodyBytes -= step;
        offset += step;
        continue;
      }
      this.#header[this.#headerBytes++] = bytes[offset++] ?? 0;
      this.#judgeHeader();
    }
  }

  #judgeHeader(): void {
    const [type = 0, major, minor = 0] = this.#header;
    const plausible =
      type >= FIRST_TYPE &&
      type <= LAST_TYPE &&
      (this.#headerBytes < 2 || major === 3) &&
      (this.#headerBytes < 3 || (minor >= 1 && minor <= 4));
    if (!plausible) this.#isTls = false;
    if (this.#headerBytes < HEADER_BYTES) return;
    this.#headerBytes = 0;
    this.#bodyBytes = this.#header.readUInt16BE(3);
    if (this.#bodyBytes === 0 || this.#bodyBytes > MAX_RECORD_BYTES) this.#isTls = false;
  }
}
