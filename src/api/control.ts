/**
 * What the API can ask of a balancer. The routes call it; the balancer implements it
 * (src/balancer/objects). Every method throws BatonError. Its code decides the status of the
 * response (errors.ts): BATON_UNKNOWN for a name that does not exist, BATON_CONFLICT for what does
 * not fit with what is going on, BATON_CONFIG for what the rules of the config forbid.
 */
import type { Readable } from 'node:stream';
import type { TapWish } from '../datapath/frame-tap.js';
import type {
  AdminState,
  ChangeReport,
  ConfigDocument,
  ControlEvent,
  ExplainDocument,
  ExplainQuery,
  NodeBody,
  NodeDocument,
  NodesDocument,
  ResourceBody,
  ResourcePage,
  SaveDocument,
  SessionPage,
  StatsDocument,
  VirtualServerBody,
  VirtualServerDocument,
  VirtualServersDocument,
} from './documents.js';

/** The actor of changes that come through the unix socket, and by SIGHUP. */
export const LOCAL_ACTOR = 'local';

/** One change. It takes effect completely or not at all. */
export type Change =
  /** Reads a config file, by default the one that was read last. `file` is absolute. */
  | { kind: 'reload'; file?: string }
  | { kind: 'node-state'; node: string; state: AdminState; reason?: string }
  | { kind: 'weight'; node: string; weight: number }
  | { kind: 'add-node'; node: NodeBody }
  | { kind: 'add-virtual-server'; virtualServer: VirtualServerBody }
  /** Where there is a resource of this host and path, adds its nodes as holders. */
  | { kind: 'add-resource'; resource: ResourceBody }
  | { kind: 'remove-node'; node: string }
  /** `endSessions`: its sessions do not go on. */
  | { kind: 'remove-virtual-server'; virtualServer: string; endSessions?: boolean }
  /** With `node`, only this node no longer holds it. */
  | {
      kind: 'remove-resource';
      host?: string;
      path: string;
      alpn?: readonly string[];
      virtualServer?: string;
      node?: string;
    };

/** An event with its number for `Last-Event-ID`. */
export interface NumberedEvent {
  /** Differs for each event, also across starts of the balancer. */
  readonly id: string;
  readonly event: ControlEvent;
}

export interface Control {
  stats(): Promise<StatsDocument>;
  /** The text of `GET /metrics`, for Prometheus. The path has no version: scrapers expect it so. */
  metrics(): Promise<string>;
  /** At most `limit` sessions, in slots from `after` on. */
  sessions(after: number, limit: number): Promise<SessionPage>;
  /**
   * A stream of records (wire/tap-record.ts), until it is destroyed. Undefined while another one is
   * open.
   */
  capture(wish: TapWish): Promise<Readable | undefined>;
  /** Makes the balancer end and leave everything in place. */
  leave(): void;

  nodes(): Promise<NodesDocument>;
  node(name: string): Promise<NodeDocument>;
  virtualServers(): Promise<VirtualServersDocument>;
  virtualServer(name: string): Promise<VirtualServerDocument>;
  /** At most `limit` resources in the order of the config, from number `after` on. */
  resources(after: number, limit: number): Promise<ResourcePage>;

  /** @param actor who asks for it: `LOCAL_ACTOR`, or the name of a token */
  change(change: Change, actor: string): Promise<ChangeReport>;
  config(): Promise<ConfigDocument>;
  /** Writes what runs into the config file. Throws BATON_CONFLICT without `force` when somebody
   * has changed the file since it was read. */
  saveConfig(options: { force?: boolean }): Promise<SaveDocument>;
  explain(query: ExplainQuery): Promise<ExplainDocument>;

  /**
   * `listener` gets every event from now on, and must return quickly.
   * @param after the id of the last event that the listener has seen: it gets the later ones first,
   *   as far as they are remembered
   * @returns ends the subscription
   */
  subscribe(listener: (event: NumberedEvent) => void, after?: string): () => void;
}
