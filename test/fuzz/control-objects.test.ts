/** Decoders of the control plane are total: whatever a file or a state folder holds gives an object or problems. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readControlConfig } from '../../control/config.ts';
import { parseTextMatch } from '../../control/objects/match-values.ts';
import { decodeObject, identify, KIND_TABLE } from '../../control/objects/object.ts';
import { AmbitError } from '../../core/errors.ts';

/** Names of fields that decoders read, so that arbitrary values reach deep. */
const field = fc.constantFrom(
  ...[
    'metadata',
    'spec',
    'status',
    'name',
    'namespace',
    'labels',
    'annotations',
    'ownerReferences',
    'selector',
    'matchLabels',
  ],
  ...[
    'rules',
    'from',
    'to',
    'when',
    'source',
    'operation',
    'principals',
    'ipBlocks',
    'ports',
    'key',
    'values',
    'notValues',
  ],
  ...[
    'action',
    'targetRefs',
    'mtls',
    'mode',
    'portLevelMtls',
    '8080',
    'containers',
    'initContainers',
    'containerPort',
    'podIP',
  ],
  ...[
    'podIPs',
    'conditions',
    'clusterIP',
    'clusterIPs',
    'port',
    'targetPort',
    'nodeName',
    'serviceAccountName',
    '__proto__',
  ],
);
const leaf = fc.oneof(
  fc.constantFrom<unknown>(
    'a',
    '*',
    'a*b',
    '10.0.0.1',
    '10.0.0.0/8',
    'STRICT',
    'DENY',
    'source.ip',
    'remote.ip',
    '80',
    '70000',
    'None',
  ),
  fc.string(),
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constantFrom(null, undefined),
);
const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 6 },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(field, tie('value'), { maxKeys: 6 }),
  ),
}));

test('every kind decodes to an object or to problems with a reason', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...KIND_TABLE),
      fc.dictionary(field, value, { maxKeys: 4 }),
      value,
      value,
      (row, metadata, spec, status) => {
        const decoded = decodeObject(row, {
          apiVersion: row.apiVersions[0],
          kind: row.kind,
          metadata: { name: 'a', ...metadata },
          spec,
          status,
        });
        if (decoded.ok) assert.equal(decoded.value.kind, row.kind);
        else assert.ok(decoded.problems.length > 0 && decoded.problems.every(({ reason }) => reason !== ''));
      },
    ),
    { numRuns: 5000 },
  );
});

test('any value is identified', () => {
  fc.assert(
    fc.property(fc.oneof(value, fc.anything()), (candidate) => void identify(candidate)),
    { numRuns: 3000 },
  );
});

test('a text match keeps its text or is refused', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('a', '*', '/', '.'), maxLength: 6 }), (text) => {
      const match = parseTextMatch(text);
      if (match === undefined) assert.ok(text === '' || text.slice(1, -1).includes('*') || text.split('*').length > 2);
      else if (match.kind === 'presence') assert.equal(text, '*');
      else assert.equal({ exact: match.value, prefix: `${match.value}*`, suffix: `*${match.value}` }[match.kind], text);
    }),
    { numRuns: 2000 },
  );
});

test('any arguments give a configuration or CONFIGURATION', () => {
  const argument = fc.oneof(
    fc.constantFrom('--config-dir', '--state-dir', '--listen', '127.0.0.1:0', '--root-ttl', '1h', '--', '='),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(argument, { maxLength: 8 }), (args) => {
      try {
        readControlConfig(args, {});
      } catch (thrown) {
        assert.ok(thrown instanceof AmbitError && thrown.code === 'CONFIGURATION', String(thrown));
      }
    }),
    { numRuns: 2000 },
  );
});
