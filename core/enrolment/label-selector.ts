/**
 * Kubernetes label selectors: `matchLabels` and `matchExpressions`, all of which must hold (meta/v1 LabelSelector).
 * An empty selector matches everything. As in Kubernetes, `NotIn` also matches when the key is absent.
 */
export type Labels = Readonly<Record<string, string>>;

export interface LabelExpression {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values?: readonly string[];
}

export interface LabelSelector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly LabelExpression[];
}

export function matchesSelector(selector: LabelSelector, labels: Labels): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (labelValue(labels, key) !== value) return false;
  }
  return (selector.matchExpressions ?? []).every((expression) => matchesExpression(expression, labels));
}

/** What is wrong with a selector, in words, or undefined when it is well formed. */
export function validateSelector(selector: LabelSelector): string | undefined {
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    if (key === '') return 'an expression has no key';
    const takesValues = operator === 'In' || operator === 'NotIn';
    if (takesValues && values.length === 0) return `expression on ${key}: ${operator} needs values`;
    if (!takesValues && values.length > 0) return `expression on ${key}: ${operator} takes no values`;
  }
  return undefined;
}

function matchesExpression({ key, operator, values = [] }: LabelExpression, labels: Labels): boolean {
  const value = labelValue(labels, key);
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}

/** Own properties only: `constructor` is a legal label key and must not find Object's. */
function labelValue(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}
