/**
 * A balancer's config as plain data: the keys of the file, without defaults. Changes at run time
 * are made to it (edit.ts), checked like a file (check-data.ts), and written back (render.ts).
 */
import type { PortForms } from './ports.js';

export interface NodeData {
  readonly name: string;
  readonly address: string;
  readonly weight?: number;
  readonly handoff?: string;
  readonly via?: string;
}

export interface VirtualServerData {
  readonly name: string;
  readonly address: string;
  readonly port?: number;
  readonly ports?: PortForms;
  readonly mode?: string;
  readonly protocol?: string;
  readonly transport?: string;
  readonly predictor?: string;
  readonly keepAlive?: string;
  readonly retry?: string;
  readonly firstBytes?: string;
  /** Names of the nodes that get connections. */
  readonly nodes?: readonly string[];
  readonly sticky?: string;
  readonly stickyPrefix?: number;
  readonly buckets?: number;
  readonly bucketIdle?: string;
  /** Of its own: it has them in place of the common ones. */
  readonly resources?: readonly ResourceData[];
}

export interface ResourceData {
  readonly host?: string;
  readonly path: string;
  readonly alpn?: readonly string[];
  readonly rewrite?: string;
  /** Names of the holders. */
  readonly nodes: readonly string[];
}

/** A resource with the name of the virtual server that it is for. Without: a common one. */
export interface OwnedResource extends ResourceData {
  readonly virtualServer?: string;
}

/** Nothing changes it in place: an edit makes new data, which shares what stays as it was. */
export interface BalancerData {
  readonly virtualServers: readonly VirtualServerData[];
  readonly nodes: readonly NodeData[];
  readonly resources: readonly ResourceData[];
  readonly [key: string]: unknown;
}

/**
 * All resources: the common ones, then those of each virtual server. Their place in this list is
 * their index everywhere.
 */
export function allResources({
  resources,
  virtualServers,
}: Pick<BalancerData, 'resources' | 'virtualServers'>): readonly OwnedResource[] {
  const own = virtualServers.flatMap(({ name, resources: list = [] }) =>
    list.map((resource) => ({ ...resource, virtualServer: name })),
  );
  return own.length === 0 ? resources : [...resources, ...own];
}
