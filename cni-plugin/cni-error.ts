/**
 * Errors in the form the runtime reads on standard output (CNI specification 1.1, section "Error"). Codes below 100 are
 * the specification's, those from 100 on are ours.
 */
import { CNI_LATEST } from './cni-version.ts';

export const CNI_ERROR = {
  incompatibleVersion: 1,
  invalidEnvironment: 4,
  ioFailure: 5,
  undecodable: 6,
  invalidConfig: 7,
  /** The agent cannot be asked now; the runtime repeats the call. */
  tryAgainLater: 11,
  /** The agent could not bring an eligible pod into the mesh. */
  captureFailed: 100,
  /** CHECK: the traffic of the pod is not captured as it should be. */
  drifted: 101,
  /** A defect in the plugin itself. */
  internal: 999,
} as const;

export class CniError extends Error {
  readonly code: number;
  readonly details: string | undefined;

  /** `message` says in one line what failed, `details` what the operator may do. */
  constructor(code: number, message: string, details?: string) {
    super(message);
    this.name = 'CniError';
    this.code = code;
    this.details = details;
  }

  /** The object for standard output; `cniVersion` is the network configuration's where that could be read. */
  toJson(cniVersion: string = CNI_LATEST): string {
    const fields = { cniVersion, code: this.code, msg: this.message };
    return JSON.stringify(this.details === undefined ? fields : { ...fields, details: this.details });
  }
}
