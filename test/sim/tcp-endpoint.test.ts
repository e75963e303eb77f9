/**
 * The simulated TCP alone: two ends and a bad network, without the balancer.
 */
import t from 'tap';
import { Clock } from './clock.js';
import { bytesOf } from './content.js';
import { Network } from './network.js';
import { Random } from './random.js';
import { type EndpointHooks, type EndpointOptions, resetFor, type Segment } from './segment.js';
import { Endpoint } from './tcp-endpoint.js';

const LINK = { loss: 0.2, duplicate: 0.1, damage: 0, delay: 5, jitter: 40 };

t.test('both directions arrive complete, whatever the network does', async (t) => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = new Random(seed);
    const clock = new Clock(0);
    const network = new Network(clock, random.fork());
    const heard = { client: [] as Uint8Array[], server: [] as Uint8Array[] };
    const ends: string[] = [];
    const complaints: string[] = [];
    const stamps = random.chance(0.5);
    const make = (
      name: 'client' | 'server',
      isn: number,
      to: (segment: Segment) => void,
    ): EndpointOptions => {
      const hooks: EndpointHooks = {
        // The network does not read the frame.
        transmit: (segment) => network.carry(new Uint8Array(64), LINK, () => to(segment)),
        receive: (bytes) => heard[name].push(bytes),
        remoteClosed: () => (name === 'server' ? server : client).close(),
        ended: (reason) => ends.push(`${name} ${reason}`),
        violation: (message) => complaints.push(message),
      };
      return {
        clock,
        random: random.fork(),
        hooks,
        isn,
        mss: 1000,
        windowScale: 2,
        sack: true,
        timestamps: stamps,
        receiveBuffer: 9_000,
        timestampOffset: 0xffff_fff0,
        mangle: name === 'client',
        timeWaitMs: 100,
        maxRetries: 20,
        trusting: true,
      };
    };
    const clientIsn = 0xffff_ff00;
    const serverIsn = 0x7fff_ff00;
    const client: Endpoint = new Endpoint(
      make('client', clientIsn, (segment) => server.receive(segment)),
    );
    const server: Endpoint = new Endpoint(
      make('server', serverIsn, (segment) => client.receive(segment)),
    );
    server.adopt(clientIsn, { mss: 1000, scale: 2, sack: true, recent: stamps ? 0 : undefined });
    client.adopt(serverIsn, { mss: 1000, scale: 2, sack: true, recent: stamps ? 0 : undefined });
    const up = bytesOf(`up ${seed}`, random.between(1, 30_000));
    const down = bytesOf(`down ${seed}`, random.between(1, 30_000));
    server.receive({
      seq: (clientIsn + 1) >>> 0,
      ack: (serverIsn + 1) >>> 0,
      flags: 'A',
      window: 2000,
      options: stamps ? { timestamps: [0, 0] } : {},
      payload: new Uint8Array(0),
    });
    client.receive({
      seq: (serverIsn + 1) >>> 0,
      ack: (clientIsn + 1) >>> 0,
      flags: 'A',
      window: 2000,
      options: stamps ? { timestamps: [0, 0] } : {},
      payload: new Uint8Array(0),
    });
    client.write(up);
    server.write(down);
    client.close();
    while (clock.now < 300_000 && ends.length < 2 && clock.step());
    if (Buffer.compare(Buffer.concat(heard.server), up) !== 0)
      t.fail(`seed ${seed}: what went up is not what was sent`);
    if (Buffer.compare(Buffer.concat(heard.client), down) !== 0)
      t.fail(`seed ${seed}: what came down is not what was sent`);
    t.same(complaints, [], `seed ${seed}: ${up.length} bytes up, ${down.length} down`);
  }
});

t.test('resetFor answers a segment without a connection as RFC 9293 says', async (t) => {
  const base = { window: 1, options: {}, payload: new Uint8Array(3) };
  t.equal(resetFor({ ...base, seq: 1, ack: 2, flags: 'R' }), undefined);
  t.match(resetFor({ ...base, seq: 1, ack: 2, flags: 'PA' }), { seq: 2, flags: 'R' });
  t.match(resetFor({ ...base, seq: 0xffff_ffff, ack: 2, flags: 'S' }), {
    seq: 0,
    ack: 3,
    flags: 'RA',
  });
});
