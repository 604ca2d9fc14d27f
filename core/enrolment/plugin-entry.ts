/**
 * Our entry in a CNI network configuration: what the agent's installer writes and the plugin reads. The entry tells the
 * plugin everything it needs, so that it works without credentials and before anything else of the mesh runs.
 */

/** The plugin's `type`: the name of its executable (CNI specification, section "Plugin configuration objects"). */
export const PLUGIN_TYPE = 'ambit-cni';
export const DEFAULT_AGENT_NAMESPACE = 'ambit-system';
export const DEFAULT_AGENT_POD_PREFIX = 'ambit-agent-';

export interface PluginEntry {
  /** Folder of the agent's socket, as the node sees it. */
  readonly runDir: string;
  /** Namespaces whose pods pass without the agent being asked. */
  readonly excludeNamespaces: readonly string[];
  /** The agent's own pods, which must start before anybody can be asked. */
  readonly agentNamespace: string;
  readonly agentPodPrefix: string;
}
