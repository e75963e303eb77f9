import t from 'tap';
import { ResourceCounts } from '../../../src/balancer/objects/resource-counts.js';

const A = { path: '/a' };
const B = { path: '/b' };
const C = { host: 'c.example', path: '/a' };

t.test('counts go on for the resources that stay', async (t) => {
  const first = new Uint32Array(2);
  const counts = new ResourceCounts([A, B], first);
  first[0] = 3;
  first[1] = 5;
  t.same([counts.of(0), counts.of(1)], [3, 5]);
  first[1] = 6;
  const second = new Uint32Array(3);
  counts.follow([C, B, A], second);
  second[0] = 1;
  second[1] = 1;
  t.same([counts.of(0), counts.of(1), counts.of(2)], [1, 7, 3]);
  counts.follow([B], new Uint32Array(1));
  t.equal(counts.of(0), 7);
  counts.follow([A], new Uint32Array(1));
  t.equal(counts.of(0), 0, 'a resource that was away begins again');
});

t.test('a counter that wraps loses nothing', async (t) => {
  const requests = Uint32Array.of(0xffff_fffe);
  const counts = new ResourceCounts([A], requests);
  requests[0] = 3;
  counts.look();
  t.equal(counts.of(0), 0xffff_fffe + 5);
});
