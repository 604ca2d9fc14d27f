/**
 * What an image consists of, as CycloneDX 1.6 (ECMA-424): npm packages that went into a bundle or lie beside it, from
 * package-lock.json; Debian packages; the Node.js and what is compiled into it. The same inputs give the same document.
 */
import { createHash } from 'node:crypto';

export interface BillInputs {
  readonly version: string;
  /** Decoded package-lock.json, version 3. */
  readonly lock: unknown;
  /** npm packages in the image, by their place as package-lock.json has it: `node_modules/NAME`. */
  readonly packages: ReadonlySet<string>;
  /** Lines of name, version, architecture and source package, separated by tabs. */
  readonly debianPackages: string;
  /** Milliseconds since the epoch. */
  readonly dateMs: number;
}

export interface BillComponent {
  readonly type: 'library' | 'application';
  readonly 'bom-ref': string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly licenses?: readonly object[];
  readonly hashes?: readonly object[];
}

export interface Bill {
  readonly components: readonly BillComponent[];
  readonly [key: string]: unknown;
}

export function billOfMaterials(inputs: BillInputs): Bill {
  const components = [...npmComponents(inputs), ...debianComponents(inputs.debianPackages), ...runtimeComponents()];
  const purl = `pkg:generic/ambit@${inputs.version}`;
  const root = { type: 'application', 'bom-ref': purl, name: 'ambit', version: inputs.version, purl };
  const document = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { timestamp: new Date(inputs.dateMs).toISOString(), component: root },
    components,
    dependencies: [{ ref: purl, dependsOn: components.map((component) => component['bom-ref']) }],
  };
  return { ...document, serialNumber: `urn:uuid:${contentUuid(JSON.stringify(document))}` };
}

/** The packages to which sources belong: their paths up to the innermost `node_modules/NAME` or `node_modules/@SCOPE/NAME`. */
export function packagesOf(sources: readonly string[]): Set<string> {
  const pattern = /^((?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+)\//;
  return new Set(sources.flatMap((source) => pattern.exec(source)?.[1] ?? []));
}

function npmComponents({ lock, packages }: BillInputs): BillComponent[] {
  const entries = field(lock, 'packages');
  return [...packages].sort().map((place) => {
    const entry = field(entries, place);
    const version = text(entry, 'version');
    if (version === '') throw new Error(`package-lock.json does not know ${place}`);
    const name = place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`;
    const license = text(entry, 'license');
    const integrity = /^sha512-(.+)$/.exec(text(entry, 'integrity'))?.[1];
    return {
      type: 'library',
      'bom-ref': purl,
      name,
      version,
      purl,
      ...(license === '' ? {} : { licenses: [{ expression: license }] }),
      ...(integrity === undefined
        ? {}
        : { hashes: [{ alg: 'SHA-512', content: Buffer.from(integrity, 'base64').toString('hex') }] }),
    };
  });
}

function debianComponents(lines: string): BillComponent[] {
  return lines
    .trim()
    .split('\n')
    .map((line) => {
      const [name = '', version = '', architecture = ''] = line.split('\t');
      const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}`;
      return { type: 'library', 'bom-ref': purl, name, version, purl };
    });
}

/** Rows of `process.versions` that are numbers of interfaces, or data. */
const NO_COMPONENTS: ReadonlySet<string> = new Set(['modules', 'napi', 'cldr', 'tz', 'unicode']);

function runtimeComponents(): BillComponent[] {
  const { node, ...parts } = process.versions;
  const runtime: BillComponent = {
    type: 'application',
    'bom-ref': `pkg:generic/node@${node}`,
    name: 'node',
    version: node,
    purl: `pkg:generic/node@${node}`,
    licenses: [{ expression: 'MIT' }],
  };
  // Compiled into it. Data and interface numbers are no components.
  const compiled = Object.entries(parts).filter(([name, version]) => !NO_COMPONENTS.has(name) && version !== '');
  return [
    runtime,
    ...compiled
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, version = '']): BillComponent => {
        const purl = `pkg:generic/${name}@${encodeURIComponent(version)}`;
        return { type: 'library', 'bom-ref': purl, name, version, purl };
      }),
  ];
}

/** A UUID of the content (RFC 9562 version 8). */
function contentUuid(content: string): string {
  const bytes = createHash('sha256').update(content).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

function field(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;
}

function text(value: unknown, key: string): string {
  const found = field(value, key);
  return typeof found === 'string' ? found : '';
}
