import t from 'tap';
import { createLog, formatLine, type LogOptions } from '../../src/base/log.js';

function record(options: Partial<LogOptions>): {
  log: ReturnType<typeof createLog>;
  lines: string[];
} {
  const lines: string[] = [];
  const write = (line: string): void => void lines.push(line);
  return { log: createLog({ level: 'info', program: 'balancer', write, ...options }), lines };
}

t.test('without a terminal, each message is one line of JSON', async (t) => {
  const { log, lines } = record({ people: false });
  log.info('ready', { interface: 'eth0', nodes: 3 });
  log.warn('100% of %s');
  log.debug('below the level');
  t.equal(lines.length, 2);
  const [first, second] = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  t.match(first, {
    level: 'info',
    program: 'balancer',
    message: 'ready',
    interface: 'eth0',
    nodes: 3,
  });
  t.match(first?.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  t.match(second, { level: 'warn', message: '100% of %s' });
});

t.test('on a terminal, a message is a line for people', async (t) => {
  const { log, lines } = record({ people: true, level: 'debug' });
  log.error('node n1 does not answer', { address: '10.99.0.3', why: 'no ARP reply', since: 12 });
  log.debug('x');
  t.match(
    lines[0],
    /^\d\d:\d\d:\d\d\.\d{3} error node n1 does not answer {2}address=10\.99\.0\.3 {2}why="no ARP reply" {2}since=12\n$/,
  );
  t.match(lines[1], /^\S+ debug x\n$/);
});

t.test('text from the wire cannot break a line or control a terminal', async (t) => {
  const evil = 'GET /\u001b[2J\r\n\u009b31m\u2028\u202e"\\';
  for (const people of [true, false]) {
    const { log, lines } = record({ people });
    log.warn(evil, { request: evil, [evil]: evil });
    t.equal(lines.length, 1);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: this expression finds them
    t.match(lines[0], /^[^\u0000-\u001f\u007f-\u009f\u2028\u202e]+\n$/);
    if (!people)
      t.match(JSON.parse(lines[0] ?? ''), { message: evil, request: evil, [evil]: evil });
  }
  t.equal(formatLine('not \u001b JSON\n'), 'not \\x1b JSON\n');
});
