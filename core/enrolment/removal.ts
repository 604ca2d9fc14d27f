/**
 * What an agent that is taken off its node says about it, as an Event on the Node: that nothing of it is left, or what is.
 * The command that uninstalls waits for it.
 */
export const REMOVAL_EVENT = 'AmbitRemoved';
export const REMOVAL_INCOMPLETE_EVENT = 'AmbitRemovalIncomplete';
