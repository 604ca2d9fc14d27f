/** The versions of the CNI specification this plugin speaks, oldest first, and since when it has which command. */
export const CNI_VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;

export type CniVersion = (typeof CNI_VERSIONS)[number];
export const CNI_LATEST: CniVersion = '1.1.0';

export function findCniVersion(text: unknown): CniVersion | undefined {
  return CNI_VERSIONS.find((version) => version === text);
}

export function isAtLeast(version: CniVersion, oldest: CniVersion): boolean {
  return CNI_VERSIONS.indexOf(version) >= CNI_VERSIONS.indexOf(oldest);
}
