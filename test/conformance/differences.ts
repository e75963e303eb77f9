/** Where Baton answers other than Linux, and why. docs/conformance.md shows them. */

export interface Difference {
  title: string;
  /** In the tables. */
  short: string;
  why: string;
  /** Which states and events: patterns of their titles and names. */
  at: readonly (readonly [place: RegExp, event: RegExp])[];
}

const ANY = /./;
/** The balancer reads a head, or answers itself. */
const AT_BALANCER = /^SYN-RECEIVED|nothing sent|part of a head|of the balancer/;
const OF_BALANCER = /of the balancer/;
/** Both sides have sent FIN. */
const ENDED = /^(LAST-ACK|CLOSED, after|CLOSING, of a node|TIME-WAIT)/;
const EXACT_RESETS = /^RST(\/ACK)? at RCV.NXT/;
const OTHER_SYNS = /^SYN( |, the same)/;

export const DIFFERENCES: readonly Difference[] = [
  {
    title: 'Ports without a virtual server',
    short: 'no server',
    why: 'Baton takes only the ports of virtual servers. It leaves all others to the kernel of the balancer. That kernel does not have the virtual address, and drops what comes for it.',
    at: [[/^CLOSED$/, ANY]],
  },
  {
    title: 'Flags that contradict each other',
    short: 'flags',
    why: 'No sender sets two of SYN, FIN and RST. The balancer drops and counts such a segment in every state, so that nothing behind it has to decide which flag counts. Linux resets or answers, depending on the state.',
    at: [[ANY, /^(SYN and|FIN and RST|all flags)/]],
  },
  {
    title: 'Segments without ACK where no connection is',
    short: 'no connection',
    why: 'Linux drops them in LISTEN, as section 3.10.7.2 allows, and answers them in CLOSED. The balancer does not know which of its virtual servers could have had a connection, and answers as in CLOSED: the sender learns that there is none.',
    at: [[/^LISTEN/, /without ACK|no flag/]],
  },
  {
    title: 'SYNs with malformed options',
    short: 'malformed',
    why: 'Linux stops reading at the first malformed option, and opens the connection. The balancer drops the SYN, because a node must later continue with exactly the options that were read. In later segments both skip what is malformed.',
    at: [[/^LISTEN/, /an option (of length 0|beyond)/]],
  },
  {
    title: 'No ECN',
    short: 'no ECN',
    why: 'The balancer does not offer ECN (RFC 3168), because all nodes would have to continue with it, and a kernel that adopts a connection cannot be told. The client then does without.',
    at: [[/^LISTEN/, /ECE and CWR/]],
  },
  {
    title: 'Every SYN/ACK carries a cookie',
    short: 'cookie',
    why: 'The sequence number of each SYN/ACK is a SYN cookie, so that a restarted balancer can continue the handshake. A first segment that acknowledges it therefore opens the connection again, even after an RST: only the client itself can do that. A later segment may belong to such a client as well, so it gets no RST for two minutes after the last cookie.',
    at: [[/^SYN-RECEIVED|^ESTABLISHED, (nothing|a part|answer not)|of the balancer/, EXACT_RESETS]],
  },
  {
    title: 'SYNs of new connections',
    short: 'new SYN',
    why: 'In SYN-RECEIVED a SYN with another number opens the new connection at once, so that the client need not repeat it. When both sides have sent FIN, a session has ended for the balancer, which cannot see whether the last ACK arrived: another SYN from the same port replaces it (section 3.6.1), and the same SYN is taken for a late copy. The new connection has its own numbers, so the rest of the old one gets no answer.',
    at: [
      [/^SYN-RECEIVED/, OTHER_SYNS],
      [ENDED, OTHER_SYNS],
    ],
  },
  {
    title: 'SYN/ACKs',
    short: 'SYN/ACK',
    why: 'The balancer opens no connections. Where the handshake is not complete, or the session has ended, a SYN/ACK answers nothing of ours and gets an RST with the number that it acknowledges. It ends nothing.',
    at: [
      [/^SYN-RECEIVED/, /^SYN\/ACK/],
      [ENDED, /^SYN\/ACK/],
    ],
  },
  {
    title: 'No challenge before the handshake is complete',
    short: 'no challenge',
    why: 'Until a client has acknowledged the SYN/ACK it may have a forged address. The balancer drops what lies outside of the window without an ACK, and so cannot be used to send packets to others. RFC 9293 asks for the ACK, which helps only a client that has lost its place.',
    at: [[/^SYN-RECEIVED/, /above|inside|beyond|below|keep-alive/]],
  },
  {
    title: 'A window that does not shrink',
    short: 'window',
    why: 'In SYN-RECEIVED, Linux rounds the window of its ACK down to the unit of the window scale, so that the right edge moves to the left. The balancer rounds it up (RFC 7323 section 2.4).',
    at: [[/^SYN-RECEIVED/, /PAWS/]],
  },
  {
    title: 'No SACK from the balancer',
    short: 'no SACK',
    why: 'The balancer acknowledges what it collects of a head, and keeps what comes out of order, but reports no blocks (RFC 2018, RFC 2883): a head is one or two segments. Nodes report them from their first ACK on. Where Linux leaves the time out of an ACK for old bytes, the balancer may echo it.',
    at: [[AT_BALANCER, /after a gap|below RCV.NXT|came before|keep-alive/]],
  },
  {
    title: 'Urgent data is data',
    short: 'urgent',
    why: 'Linux takes the last urgent byte out of the stream, so that the server reads a damaged head. RFC 9293 section 3.8.5 keeps it in the stream, and RFC 6093 asks for that as well. So does the balancer while it reads a head. At a node, the kernel of the node decides.',
    at: [[/^SYN-RECEIVED|nothing sent/, /^urgent/]],
  },
  {
    title: 'Heads that end too early',
    short: 'early end',
    why: 'A client closes before its head is complete. nginx closes without an answer. The balancer answers 400 (RFC 9112 section 8) if there was any byte, and then acknowledges what still comes, so that its answer is not lost.',
    at: [[/^SYN-RECEIVED|nothing sent|part of a head/, /^FIN( with data)?$/]],
  },
  {
    title: 'A smaller window is believed',
    short: 'window',
    why: 'A segment without new data reduces the window. RFC 9293 section 3.10.7.4 takes it, and the balancer gives it to the node. Linux ignores it at one place, and at the other waits with its answer until more fits.',
    at: [[/nothing sent|part of a head/, /a smaller window/]],
  },
  {
    title: 'While a node has not confirmed',
    short: 'unconfirmed',
    why: 'The balancer does not know yet that the node has the connection: its answer is under way, and the client has acknowledged nothing of it. Until then the balancer passes on only what continues the request, and drops what is old, forged or out of window. The client repeats what counts, and the acknowledgement of the answer confirms the handoff.',
    at: [[/answer not acknowledged/, ANY]],
  },
  {
    title: 'Answered clients may go on sending',
    short: 'lingering',
    why: 'A server that has closed resets a client that sends more, which can destroy the answer before the client has read it. The balancer acknowledges and throws away what comes for a limited time, as RFC 9112 section 9.6 asks for.',
    at: [[/^FIN-WAIT-[12], of the balancer/, /data|FIN|option|urgent/]],
  },
  {
    title: 'Old acknowledgements get no ACK',
    short: 'old ACK',
    why: 'RFC 5961 section 5.2 asks for an ACK if an acknowledgement number is far too old. The balancer keeps no count of the largest window. It ignores the number, and answers only segments that take sequence space.',
    at: [[OF_BALANCER, /^ACK (of one byte less|far below)/]],
  },
  {
    title: 'CLOSING and TIME-WAIT of the balancer',
    short: 'closing',
    why: 'The balancer answers every repetition with an ACK, where Linux is silent in CLOSING. It ignores RSTs in TIME-WAIT (RFC 1337) and one below RCV.NXT, and drops what lies outside of the window in TIME-WAIT. All of that ends with the session, in seconds. The balancer does not note times of segments that it drops.',
    at: [[/^(CLOSING|TIME-WAIT), of the balancer/, ANY]],
  },
];
