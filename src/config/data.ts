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
}

export interface ResourceData {
  readonly host?: string;
  readonly path: string;
  readonly alpn?: readonly string[];
  readonly rewrite?: string;
  /** Names of the holders. */
  readonly nodes: readonly string[];
}

/** Nothing changes it in place: an edit makes new data, which shares what stays as it was. */
export interface BalancerData {
  readonly virtualServers: readonly VirtualServerData[];
  readonly nodes: readonly NodeData[];
  readonly resources: readonly ResourceData[];
  readonly [key: string]: unknown;
}
