/**
 * The balancer's own kernel never answers for virtual servers, even while the engine does not run.
 * All other traffic of the machine is as before.
 */
import t from 'tap';
import { curl } from '../../lab/clients/curl.js';
import { Flood } from '../../lab/clients/flood.js';
import { BALANCER_ADDRESS, VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { answersPing, captureFrames } from '../../lab/probes/frames.js';
import { WebServer } from '../../lab/servers/web.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const resources = [{ path: '/one/', nodes: ['n1'] }];
const COULD_NOT_CONNECT = 7;
const TIMED_OUT = 28;
/** Frames for an xdp engine that reads none. */
const MORE_THAN_FITS = 40_000;

function fill(farm: Farm): void {
  farm.webs[0]?.put('one/a.txt', 'from node 1\n');
}

/**
 * RSTs from port 80 of the virtual address, and ICMP from the virtual address.
 */
function answersOfKernel(frames: readonly Buffer[]): Buffer[] {
  const virtual = Buffer.from(VIRTUAL_ADDRESS.split('.').map(Number));
  return frames.filter((frame) => {
    if (frame.readUInt16BE(12) !== 0x0800 || !frame.subarray(26, 30).equals(virtual)) {
      return false;
    }
    const protocol = frame[23];
    const isReset = protocol === 6 && frame.readUInt16BE(34) === 80 && ((frame[47] ?? 0) & 4) !== 0;
    return isReset || protocol === 1;
  });
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  "the balancer's own kernel never answers for a virtual server",
  { skip: whyNoFarm() },
  async (t) => {
    await withFarm(t, { resources, fill, nodes: 1 }, async (farm) => {
      const own = new WebServer(farm.balancer, farm.directory, {
        listen: `${BALANCER_ADDRESS}:8022`,
      });
      own.put('index.html', 'the balancer itself\n');
      await own.start();
      const ordinary = async (): Promise<string> =>
        (await curl(farm.client, `http://${BALANCER_ADDRESS}:8022/`)).body.toString();

      await t.test('other traffic of the machine is as before', async (t) => {
        t.equal(await ordinary(), 'the balancer itself\n');
        t.ok(await answersPing(farm.client, BALANCER_ADDRESS), 'the own address answers a ping');
        t.ok(await answersPing(farm.client, VIRTUAL_ADDRESS), 'the virtual address answers a ping');
        const other = await curl(farm.client, `${BASE}:81/`);
        t.equal(
          other.exit,
          COULD_NOT_CONNECT,
          'a port of the virtual address without a virtual server refuses connections',
        );
      });

      await t.test('the kernel sends nothing while the engine is stopped', async (t) => {
        farm.balancerProgram?.signal('SIGSTOP');
        const frames = await captureFrames(farm.client, async () => {
          const answer = await curl(farm.client, `${BASE}/one/a.txt`, [], 1500);
          t.equal(answer.exit, TIMED_OUT, 'the connection is neither refused nor reset');
          t.equal(await ordinary(), 'the balancer itself\n', 'other traffic goes on meanwhile');
        });
        t.ok(frames.length > 5, 'the capture saw the wire');
        t.same(answersOfKernel(frames), []);
        const waiting = curl(farm.client, `${BASE}/one/a.txt`);
        await new Promise((resolve) => setTimeout(resolve, 300));
        farm.balancerProgram?.signal('SIGCONT');
        t.equal((await waiting).status, 200, 'a waiting client is served');
      });

      const roomy = DATAPATH === 'packet' && 'its ring holds more than 200,000 frames';
      await t.test(
        'frames that were lost during the stop give a warning with a remedy',
        { skip: roomy },
        async (t) => {
          farm.balancerProgram?.signal('SIGSTOP');
          const sent = async (): Promise<number> => (await farm.client.traffic()).sentPackets;
          const before = await sent();
          const to = { to: farm.balancer.mac, address: VIRTUAL_ADDRESS, port: 80 };
          const flood = await Flood.from(farm.client, { ...to, flags: 'A', seconds: 60 });
          await farm.waitFor(
            async () => (await sent()) - before > MORE_THAN_FITS,
            'the flood has sent more than the ring holds',
          );
          await flood.stop();
          farm.balancerProgram?.signal('SIGCONT');
          await farm.balancerProgram?.waitForLog(
            /frames lost before the engine read them: .*`workers`/,
          );
          t.match((await farm.stats()).losses, [{ counter: 'ring_lost' }]);
          const { stdout } = await farm.baton(['stats', '-c', farm.balancerConfig]);
          t.match(stdout, /^warning: ring_lost: [\d,]+ frames lost .*`workers`/m);
        },
      );

      await t.test('the kernel sends nothing after a crash of the balancer', async (t) => {
        await farm.balancerProgram?.kill();
        const frames = await captureFrames(farm.client, async () => {
          t.equal((await curl(farm.client, `${BASE}/one/a.txt`, [], 1000)).exit, TIMED_OUT);
        });
        t.same(answersOfKernel(frames), []);
        await farm.startBalancer();
        await farm.waitNodesUp();
        t.equal((await curl(farm.client, `${BASE}/one/a.txt`)).status, 200);
      });
      await own.stop();
    });
  },
);
