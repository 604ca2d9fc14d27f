/**
 * Why this agent is asked to stop, and what that means for what it has put on the node. Pure.
 *
 * When the agent is replaced, everything stays: pods that are captured fail closed for a moment, new pods wait for the
 * successor. When the mesh is taken off the node, everything goes, rules in running pods included, so that they go on
 * in plain text. The agent's own DaemonSet tells which it is (as istio-cni asks for its own).
 */

/** What the API server said when it was asked for the agent's own DaemonSet. */
export type OwnerAnswer =
  | { readonly kind: 'present'; readonly deleting: boolean; readonly selectsThisNode: boolean }
  | { readonly kind: 'absent' }
  /** The agent's account or its rights are gone: they go with the installation, never with an upgrade. */
  | { readonly kind: 'refused'; readonly status: 401 | 403 }
  /** No answer. */
  | { readonly kind: 'unknown'; readonly reason: string };

export type Departure =
  | { readonly kind: 'replaced'; readonly reason: string }
  | { readonly kind: 'removed'; readonly reason: string };

/** `answers`: one per try, oldest first. A doubt means `replaced`: it fails closed, and the next agent takes over. */
export function judgeDeparture(answers: readonly OwnerAnswer[]): Departure {
  const last = answers.at(-1);
  switch (last?.kind) {
    case 'absent':
      return { kind: 'removed', reason: 'the DaemonSet of the agent is gone' };
    case 'present':
      if (last.deleting) return { kind: 'removed', reason: 'the DaemonSet of the agent is being deleted' };
      if (!last.selectsThisNode)
        return { kind: 'removed', reason: 'the DaemonSet of the agent no longer selects this node' };
      return { kind: 'replaced', reason: 'the DaemonSet of the agent is there' };
    case 'refused': {
      // Once may be an API server that is just starting; the same answer to every try is not.
      const always = answers.length > 1 && answers.every((answer) => answer.kind === 'refused');
      if (always)
        return { kind: 'removed', reason: `the account of the agent has no rights any more (${last.status})` };
      return { kind: 'replaced', reason: `one refusal (${last.status}) proves nothing` };
    }
    case 'unknown':
      return { kind: 'replaced', reason: `it is not known whether the agent was removed: ${last.reason}` };
    case undefined:
      return { kind: 'replaced', reason: 'nobody was asked' };
  }
}
