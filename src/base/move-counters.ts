/** The engine's counters of kept-alive connections that move from node to node. */
import { type CounterInfo, counter } from './counter-info.js';

/** By name. `COUNTERS` has them too. */
export const MOVE_COUNTERS = {
  moved: counter(
    'moves',
    'Moves of a connection to another node between two requests (keepAlive: migrate).',
  ),
  moves_asked: counter(
    'questions',
    'Questions to nodes whether a connection may leave them, repetitions included. Compare with moved and moves_refused.',
  ),
  moves_refused: counter(
    'questions',
    'Connections that their node did not let go, because an answer had not ended or cannot be followed. The request went to that node.',
  ),
  moves_silent: counter(
    'questions',
    'Connections whose node did not answer the question whether they may leave it.',
  ),
  parked: counter(
    'sockets',
    'Sockets that a node has kept when its connection moved on (docs/ixp.md, "Parked sockets").',
  ),
  resumed: counter(
    'moves',
    'Moves of a connection back to a socket that its node has kept. They are counted in moved and in handoffs too.',
  ),
  resumes_refused: counter(
    'moves',
    'Moves back for which the node had no such socket any more, and built a new one.',
  ),
  parked_evicted: counter(
    'sockets',
    'Kept sockets that were ended because their connection had moved through more nodes than can keep one for it.',
  ),
  parked_closed: counter(
    'sockets',
    'Kept sockets that their web server has closed, mostly because its keep-alive time was over. The client did not see it.',
  ),
  parked_woken: counter(
    'sockets',
    'Idle sockets of connections that their web server has closed at the node where the connection is. The client gets the FIN.',
  ),
  requests_early: counter(
    'segments',
    'Segments with a later request that came before the node had confirmed all of the request ahead, although the client has bytes of its answer. The client sends each again.',
  ),
  heads_judged: counter(
    'heads',
    'Heads given to the XDP program, which forwards the same request by itself from then on (xdp_head_forwarded). A change of the farm or of a node voids all of them; each comes back with its next request.',
  ),
  heads_replaced: counter(
    'heads',
    'Heads that took the place of another one, because their set in the map of the XDP program was full. Many of them next to heads_judged mean that clients ask for more different requests than the map has room for.',
  ),
  pinned_upgrade: counter(
    'sessions',
    'Connections that stay with their node from a request on, because a request asks for another protocol (Upgrade).',
  ),
  pinned_connect: counter(
    'sessions',
    'Connections that stay with their node from a request on, because a request is CONNECT, behind which a tunnel begins.',
  ),
  pinned_expect: counter(
    'sessions',
    'Connections that stay with their node from a request on, because a request has the field Expect, so its client waits for an interim answer.',
  ),
  pinned_authentication: counter(
    'sessions',
    'Connections that stay with their node from a request on, because NTLM or Negotiate authenticate the connection and not the request.',
  ),
  pinned_body: counter(
    'sessions',
    'Connections that stay with their node from a request on, because servers do not agree where the body of a request ends, or it is malformed.',
  ),
  pinned_head: counter(
    'sessions',
    'Connections that stay with their node from a request on, because a later head is malformed, too large, or was not complete in time. The node answers it.',
  ),
  pinned_method: counter(
    'sessions',
    'Connections that stay with their node from a request on, because some servers close the connection behind a method like this.',
  ),
  pinned_pipelining: counter(
    'sessions',
    'Connections that stay with their node from a request on, because a client sent a request before the one ahead of it was answered.',
  ),
  pinned_gap: counter(
    'sessions',
    'Connections that stay with their node from a request on, because a segment of a chunked body was lost or overtaken, so that its end is unknown.',
  ),
  pinned_unfollowed: counter(
    'sessions',
    'Connections that stay with their node from a request on, because the node cannot say where its answers end.',
  ),
  pinned_unable: counter(
    'sessions',
    'Connections that stay with their node from a request on, because the agent of the node is of a version that cannot let a session go.',
  ),
  pinned_found: counter(
    'sessions',
    'Connections that stay with their node because they were found there (see found): what the client had asked for before is not known.',
  ),
} as const satisfies Readonly<Record<string, CounterInfo>>;
