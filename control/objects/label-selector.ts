/** LabelSelector (meta/v1): labels that must be there, and expressions over sets of values. All must agree. */
import { type Decoder, list, mapped, object, oneOf, record, string, withDefault } from '../../core/decoder.ts';
import { unreachable } from '../../core/errors.ts';

export interface LabelSelector {
  readonly matchLabels: ReadonlyMap<string, string>;
  readonly matchExpressions: readonly {
    readonly key: string;
    readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
    readonly values: readonly string[];
  }[];
}

const expression = mapped(
  object(
    { key: string, operator: oneOf('In', 'NotIn', 'Exists', 'DoesNotExist'), values: withDefault(list(string), []) },
    'refuse',
  ),
  (wire, path, report) => {
    const wantsValues = wire.operator === 'In' || wire.operator === 'NotIn';
    if (wantsValues !== wire.values.length > 0) {
      report([...path, 'values'], `must ${wantsValues ? 'not ' : ''}be empty with operator ${wire.operator}`);
    }
    return wire;
  },
);

/** A misspelt field would make the selector wider: unknown ones are refused. */
export const labelSelector: Decoder<LabelSelector> = object(
  {
    matchLabels: withDefault(record(string), new Map<string, string>()),
    matchExpressions: withDefault(list(expression), []),
  },
  'refuse',
);

/** An empty selector matches everything. */
export function matchesLabels(selector: LabelSelector, labels: ReadonlyMap<string, string>): boolean {
  for (const [key, value] of selector.matchLabels) if (labels.get(key) !== value) return false;
  return selector.matchExpressions.every(({ key, operator, values }) => {
    const value = labels.get(key);
    switch (operator) {
      case 'Exists':
        return value !== undefined;
      case 'DoesNotExist':
        return value === undefined;
      case 'In':
        return value !== undefined && values.includes(value);
      case 'NotIn':
        // As in Kubernetes: an object without the label is not in the set either.
        return value === undefined || !values.includes(value);
      default:
        return unreachable(operator);
    }
  });
}
