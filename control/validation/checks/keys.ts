/** Keys of objects, as findings name them. */

export function keyOf({
  kind,
  meta,
}: {
  readonly kind: string;
  readonly meta: { readonly namespace: string; readonly name: string };
}): string {
  return `${kind}/${meta.namespace}/${meta.name}`;
}
