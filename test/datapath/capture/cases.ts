/** The expected results of the captures: test/fixtures/captures/EXPECTED.md as a table. */

/** The expectations of EXPECTED.md for one connection. */
export interface Expected {
  client: string;
  /** Method and target of the request, as shown. */
  request: string;
  /** Client frames forwarded after the node had the session. */
  packets: number;
  closed?: string;
}

export interface Case {
  file: string;
  server: string;
  frames: { of: number; client: number; server: number };
  sessions: Expected[];
  /** IXP frames: the pieces of the head, and segments before the confirmation. */
  wrapped: number;
  /** Counters that do not follow from `sessions`. */
  counters?: Record<string, number>;
}

export const CASES: Case[] = [
  {
    file: 'get.pcap',
    server: '192.150.187.43:80',
    frames: { of: 14, client: 7, server: 7 },
    sessions: [
      { client: '141.142.228.5:59856', request: 'GET /download/CHANGES.bro-aux.txt', packets: 4 },
    ],
    wrapped: 1,
  },
  {
    file: 'entity_gap.pcap',
    server: '192.150.187.43:80',
    frames: { of: 13, client: 7, server: 6 },
    sessions: [
      { client: '141.142.228.5:59856', request: 'GET /download/CHANGES.bro-aux.txt', packets: 4 },
    ],
    wrapped: 1,
  },
  {
    file: 'content-length-overflow.pcap',
    server: '10.0.0.2:80',
    frames: { of: 10, client: 5, server: 5 },
    sessions: [{ client: '10.0.0.1:54321', request: 'GET /bigfile', packets: 2 }],
    wrapped: 1,
  },
  {
    file: 'multipart.pcap',
    server: '54.243.88.146:80',
    frames: { of: 10, client: 6, server: 4 },
    sessions: [{ client: '141.142.228.5:57262', request: 'POST /post', packets: 3 }],
    wrapped: 1,
  },
  {
    file: 'http-lower-case-nonstandard-port.pcap',
    server: '127.0.0.1:1234',
    frames: { of: 10, client: 6, server: 4 },
    sessions: [{ client: '127.0.0.1:49742', request: 'GET /index.html', packets: 3 }],
    wrapped: 1,
  },
  {
    file: 'websocket.pcap',
    server: '54.148.114.85:80',
    frames: { of: 27, client: 15, server: 12 },
    sessions: [{ client: '192.168.0.5:50798', request: 'GET /echo?.kl=Y', packets: 12 }],
    wrapped: 1,
  },
  {
    // The head is valid. Three segments of the body arrive before the node has confirmed.
    file: 'smuggle-http-request.pcap',
    server: '127.0.0.1:8080',
    frames: { of: 23, client: 13, server: 10 },
    sessions: [{ client: '127.0.0.1:44202', request: 'POST /first', packets: 7 }],
    wrapped: 4,
    counters: { wrapped: 3 },
  },
  {
    file: 'pipelined-requests.pcap',
    server: '63.245.209.11:80',
    frames: { of: 49, client: 16, server: 33 },
    sessions: [{ client: '192.168.1.104:1673', request: 'GET /style/enhanced.css', packets: 13 }],
    wrapped: 1,
  },
  {
    file: '100-continue.pcap',
    server: '128.146.216.51:80',
    frames: { of: 66, client: 18, server: 48 },
    sessions: [{ client: '192.168.3.103:54102', request: 'POST /', packets: 15 }],
    wrapped: 1,
  },
  {
    // A head of 1,542 bytes: two segments of the client, and two in IXP (1,424 and 118 bytes).
    file: 'zero-length-bodies-with-drops.pcap',
    server: '75.98.70.31:80',
    frames: { of: 44, client: 26, server: 18 },
    sessions: [
      {
        client: '10.0.0.118:51534',
        request:
          'GET /ad/l/1?last=0&ct=0&metr=127&s=b019&t=1300988780203466&adid=364838&reid=180527&arid=2&auid=&cn=defaultImpression&et=i&_cc=364838,180525,,12028.12150.,1300988780,1&tpos=1260&iw=&uxnw=&uxss=&uxct=&i...',
        packets: 22,
      },
    ],
    wrapped: 2,
  },
  {
    // The SYN/ACK is sent again after 1 s and after another 2 s. Then the client's second SYN, at 3
    // s, is answered.
    file: '206_example_a.pcap',
    server: '129.174.93.161:80',
    frames: { of: 672, client: 266, server: 406 },
    sessions: [
      {
        client: '10.101.84.70:10977',
        request: 'GET /~tr-admin/papers/GMU-CS-TR-2010-20.pdf',
        packets: 15,
      },
      {
        client: '10.101.84.70:10978',
        request: 'GET /~tr-admin/papers/GMU-CS-TR-2010-20.pdf',
        packets: 244,
      },
    ],
    wrapped: 2,
    counters: { syn_retransmitted: 1, syn_ack_retransmitted: 2 },
  },
  {
    // All frames but one are there twice. The second copy of the request is not forwarded, since
    // the first one is kept.
    file: 'm57-long-49583-80.pcap',
    server: '208.111.129.62:80',
    frames: { of: 227, client: 61, server: 166 },
    sessions: [
      {
        client: '192.168.1.105:49583',
        request:
          'GET /msdownload/update/software/secu/2009/07/windows6.0-kb971657-x86_d80725113915f67a2693bd66a9307243fa3f8e2c.psf',
        packets: 56,
        closed: 'client-reset',
      },
    ],
    wrapped: 1,
    counters: { syn_retransmitted: 1 },
  },
  {
    file: 'vnd.ms-cab-compressed-multi-conn.pcap',
    server: '65.54.95.7:80',
    frames: { of: 158, client: 70, server: 88 },
    sessions: [
      [49433, 5],
      [49459, 8],
      [49461, 8],
      [49462, 12],
      [49463, 8],
    ].map(([port, packets = 0]) => ({
      client: `192.168.1.105:${port}`,
      request:
        'GET /msdownload/update/software/crup/2009/04/windows6.0-kb955430-x86-express_9c8a57958486102e94e591384dc69dd7e8d01169.cab',
      packets,
      closed: 'client-reset',
    })),
    wrapped: 5,
    counters: { syn_retransmitted: 5 },
  },
];
