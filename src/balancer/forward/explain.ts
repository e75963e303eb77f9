/** Says which node a packet for a virtual server with mode forward would go to, and why. */
import type { ExplainCandidate, ExplainDocument } from '../../api/documents.js';
import { FlowKind, FORWARD_SERVER, NO_NODE, NodeFlag } from '../../engine/forward/layout.js';
import { NO_FLOW, ownerOf } from '../../engine/forward/tables.js';
import { formatAddress, formatEndpoint, isAddress6, toAddress } from '../../wire/address.js';
import type { ExplainedNode } from '../objects/explain.js';
import type { ExplainClient } from '../objects/explain-request.js';
import type { FarmSlots, ServerSlot } from '../objects/farm.js';
import type { ForwardKeeper } from './keeper.js';

/** A packet of this client to this port. */
export interface AskedPacket {
  readonly server: ServerSlot;
  readonly port: number;
  /** Undefined: any client. */
  readonly client: ExplainClient | undefined;
}

/** The node, or NO_NODE, and what decides. */
interface Decision {
  readonly node: number;
  readonly why: string;
}

/** The parts of the document that the mode decides. */
export function explainForward(
  keeper: ForwardKeeper,
  { nodes }: FarmSlots,
  asked: AskedPacket,
  status: (slot: number) => ExplainedNode,
): Pick<ExplainDocument, 'candidates' | 'chosen' | 'why'> {
  const { server } = asked;
  const { tables } = keeper;
  const decision = decide(keeper, asked);
  const listed = nodes.filter(({ slot }) => server.nodes.includes(slot) || slot === decision.node);
  const names = new Map(nodes.map(({ slot, name }) => [slot, name]));
  const candidates = listed.map(({ slot, name, weight }): ExplainCandidate => {
    const { state, condition, why } = status(slot);
    const flags = tables.nodeFlags(slot);
    const takes = (flags & NodeFlag.takes) !== 0;
    const keeps = (flags & NodeFlag.keeps) !== 0;
    const chosen = slot === decision.node;
    const obstacle = keeps ? 'it keeps what it has, and gets nothing new' : 'it gets nothing';
    const reason = takes ? 'others have it' : [obstacle, why].filter(Boolean).join(': ');
    return {
      node: name,
      state,
      condition,
      weight,
      load: keeper.flowsOfNode(slot),
      score: null,
      credit: null,
      takes,
      lastChoice: false,
      chosen,
      why: chosen ? decision.why : reason,
    };
  });
  const chosen = names.get(decision.node) ?? null;
  return {
    candidates,
    chosen,
    why: chosen === null ? decision.why : `${chosen} would get the packet: ${decision.why}`,
  };
}

function decide(keeper: ForwardKeeper, { server, port, client: from }: AskedPacket): Decision {
  // These virtual servers have IPv4 addresses, so no IPv6 client has a packet for one.
  const client =
    from === undefined || isAddress6(from.address)
      ? undefined
      : { address: from.address, port: from.port };
  const { tables } = keeper;
  const { slot } = server;
  const nothing = 'no node takes anything new, so the packet would be dropped';
  if (server.buckets > 0) {
    if (client?.port === undefined) {
      const why = 'the bucket depends on address and port of the client (--from ADDRESS:PORT)';
      return { node: NO_NODE, why };
    }
    const bucket = tables.bucketOf(slot, client.address, client.port);
    const number = bucket - tables.serverWord(slot, FORWARD_SERVER.firstBucket);
    const node = tables.bucketNode(bucket);
    const why = `bucket ${number} of ${server.buckets}`;
    return { node, why: node === NO_NODE ? nothing : why };
  }
  if (client?.port !== undefined) {
    const ports = ((client.port << 16) | port) >>> 0;
    const owner = ownerOf(slot, FlowKind.flow);
    const hash = tables.flowHash(client.address, ports, owner);
    const flow = tables.find(client.address, ports, owner, hash);
    if (flow !== NO_FLOW && (tables.nodeFlags(tables.node(flow)) & NodeFlag.keeps) !== 0) {
      const whose = formatEndpoint({ address: client.address, port: client.port });
      return { node: tables.node(flow), why: `it has the flow of ${whose}` };
    }
  }
  const mask = tables.serverWord(slot, FORWARD_SERVER.stickyMask);
  if (client !== undefined && mask !== 0) {
    const address = toAddress((client.address & mask) >>> 0);
    const owner = ownerOf(slot, FlowKind.sticky);
    const sticky = tables.find(address, 0, owner, tables.flowHash(address, 0, owner));
    if (sticky !== NO_FLOW && (tables.nodeFlags(tables.node(sticky)) & NodeFlag.takes) !== 0) {
      const whose = `${formatAddress(address)}/${server.stickyPrefix}`;
      return { node: tables.node(sticky), why: `it is remembered for ${whose}` };
    }
  }
  const picks = tables.serverWord(slot, FORWARD_SERVER.pickCount);
  if (picks === 0) return { node: NO_NODE, why: nothing };
  const next = tables.serverWord(slot, FORWARD_SERVER.cursor) % picks;
  return { node: tables.pick(slot, next), why: 'the next pick of the predictor' };
}
