/** Changes one after the other: what each one brings to the parts, and what a failure leaves. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parse, stringify } from 'yaml';
import type { ChangeReport } from '../../../src/api/documents.js';
import { Changes, type Configurable } from '../../../src/balancer/objects/changes.js';
import type { CheckedConfig, LoadedConfig } from '../../../src/balancer/objects/config-handle.js';
import type { Farm } from '../../../src/balancer/objects/farm.js';
import { FarmChanger, type FarmUsers } from '../../../src/balancer/objects/farm-changer.js';
import { assignSlots, NO_SLOTS } from '../../../src/balancer/objects/slots.js';
import { BatonError } from '../../../src/base/errors.js';
import { checkData } from '../../../src/config/check-data.js';
import type { BalancerData } from '../../../src/config/data.js';
import { type BalancerConfig, loadBalancerFile } from '../../../src/config/load.js';
import { renderConfig } from '../../../src/config/render.js';
import { directoryImage } from '../../../src/directory/directory-image.js';

const directory = mkdtempSync(join(tmpdir(), 'baton-changes-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const FILE = join(directory, 'balancer.yaml');
const TEXT = `# the farm
interface: eth0
keyFile: key.hex
controlSocket: baton.sock
virtualServers:
  - {name: www, address: 10.99.0.100, port: 80}
nodes:
  - {name: n1, address: 10.99.0.3} # the old one
  - {name: n2, address: 10.99.0.4}
resources:
  - {path: /, nodes: [n1, n2]}
`;
const CAPACITY = { nodes: 1_024, servers: 256 };

/** A part with settings: it notes each step. */
class Part implements Configurable {
  readonly steps: string[] = [];
  fails: 'prepare' | 'commit' | 'abandon' | '' = '';
  warnings: readonly string[] = [];

  async prepare({ log: { level } }: BalancerConfig) {
    this.step('prepare', ` ${level}`);
    return {
      warnings: this.warnings,
      commit: async () => this.step('commit'),
      abandon: async () => this.step('abandon'),
    };
  }

  private step(step: 'prepare' | 'commit' | 'abandon', more = ''): void {
    this.steps.push(`${step}${more}`);
    if (this.fails === step) throw new BatonError('BATON_SYSTEM', `cannot ${step}`);
  }
}

/** Reads configs in this thread. A question waits for `gate`. */
class Configs {
  gate: Promise<void> = Promise.resolve();

  async load(file: string): Promise<LoadedConfig> {
    await this.gate;
    const { config, data, text } = loadBalancerFile(file);
    return { config, data, text, directory: directoryImage(config.resources) };
  }

  async check(data: BalancerData, file: string): Promise<CheckedConfig> {
    await this.gate;
    const config = checkData(data, file);
    return { config, data, directory: directoryImage(config.resources) };
  }

  async render(text: string, data: BalancerData): Promise<string> {
    return renderConfig(text, data);
  }
}

function setUp(t: Test, started = true) {
  writeFileSync(FILE, TEXT);
  const loaded = loadBalancerFile(FILE);
  const farms: Farm[] = [];
  const held = new Set<number>();
  let ask = (): void => {};
  const asked = new Promise<void>((resolve) => {
    ask = resolve;
  });
  /** A change waits for `gate`; `asked` resolves at the first one. */
  const engine = { fails: false, refused: 0, gate: Promise.resolve(), asked };
  const users: FarmUsers = {
    machine: {
      prepareChange: async () => ({ commit: async () => {}, abandon: async () => {} }),
    },
    engine: {
      change: async (farm) => {
        ask();
        await engine.gate;
        if (engine.fails) {
          engine.refused += 1;
          throw new BatonError('BATON_IN_USE', 'a thread cannot take the farm');
        }
        farms.push(farm);
      },
      snapshot: async () => ({ heldByServer: [] }),
    },
    neighbours: { setNodes: () => {} },
    macOf: () => '02:00:00:00:00:01',
    states: { held: (slot) => (held.has(slot) ? 1 : 0) },
    accessLog: { setNames: async () => {} },
    followers: [],
    log: { warn: () => {} },
  };
  const farm = new FarmChanger(users, {
    ...assignSlots(NO_SLOTS, loaded.config, CAPACITY),
    generation: 1,
    directory: directoryImage(loaded.config.resources),
    timeouts: loaded.config.timeouts,
  });
  const log: string[] = [];
  const note = (line: string): void => void log.push(line);
  const parts = [new Part(), new Part()] as const;
  const configs = new Configs();
  const told: { report: ChangeReport; actor: string }[] = [];
  const works: boolean[] = [];
  const changes = new Changes({
    running: loaded,
    configs,
    farm,
    parts,
    log: { debug: note, info: note, warn: note, error: note },
    onWork: (working) => works.push(working),
    onChange: (report, actor) => told.push({ report, actor }),
  });
  if (started) changes.start();
  t.teardown(() => changes.stop());
  const weight = (value: number) =>
    changes.change({ kind: 'weight', node: 'n1', weight: value }, 'me');
  const reload = (text: string) => {
    writeFileSync(FILE, text);
    return changes.change({ kind: 'reload' }, 'me');
  };
  return { changes, configs, engine, farm, farms, held, log, parts, reload, told, weight, works };
}

/** The config with another weight of n1. */
const heavier = (weight: number): string =>
  TEXT.replace('{name: n1,', `{name: n1, weight: ${weight},`);

t.test('an edit is applied, logged and told with its actor', async (t) => {
  const { farm, log, told, weight, changes } = setUp(t);
  const report = await weight(7);
  t.match(report, { changed: ['node n1: weight 1 -> 7'], generation: 2 });
  t.same(log, ['node n1: weight 1 -> 7 (by me)']);
  t.same(told, [{ report, actor: 'me' }]);
  t.same(
    farm.farm.nodes.map((node) => node.weight),
    [7, 1],
  );
  t.equal(changes.running.config.nodes[0]?.weight, 7);
  t.match(await weight(7), { changed: [], generation: 2 }, 'once more changes nothing');
  t.equal(told.length, 1);
});

t.test('engines are prompt while the work of a change goes on, and not after that', async (t) => {
  const { reload, weight, works } = setUp(t);
  await weight(7);
  t.same(works, [true, false]);
  await t.rejects(reload('nothing: here'));
  t.same(works, [true, false, true, false], 'a change that fails ends this too');
});

t.test('a second change during one is refused, whatever the two are', async (t) => {
  const { changes, configs, reload, weight } = setUp(t);
  const open = (): (() => void) => {
    let release = (): void => {};
    configs.gate = new Promise((resolve) => {
      release = resolve;
    });
    return release;
  };
  const conflict = (what: string) => ({
    code: 'BATON_CONFLICT',
    message: `${what} is under way`,
    hint: 'try again when it has ended',
  });
  let release = open();
  const first = reload(TEXT.replace('n1, n2', 'n1'));
  await t.rejects(changes.change({ kind: 'reload' }, 'you'), conflict('a reload'));
  await t.rejects(weight(3), conflict('a reload'));
  await t.rejects(changes.save({}), conflict('a reload'));
  release();
  t.match(await first, { changed: [/resource \//] }, 'the first one is not disturbed');
  release = open();
  const edit = weight(3);
  await t.rejects(changes.change({ kind: 'reload' }, 'you'), conflict('a change'));
  release();
  await edit;
  t.match(await weight(4), { changed: ['node n1: weight 3 -> 4'] }, 'then the next one can come');
});

t.test('the end waits for a change that has reached the farm, and refuses others', async (t) => {
  const { changes, engine, farms, weight } = setUp(t);
  let go = (): void => {};
  engine.gate = new Promise((resolve) => {
    go = resolve;
  });
  const first = weight(7);
  await engine.asked;
  let ended = false;
  const end = changes.stop().then(() => {
    ended = true;
  });
  const ending = { code: 'BATON_CONFLICT', message: /the balancer is ending/ };
  await t.rejects(weight(8), ending);
  t.notOk(ended, 'the change is under way');
  go();
  t.match(await first, { changed: ['node n1: weight 1 -> 7'] });
  await end;
  t.equal(farms.length, 1);

  const other = setUp(t);
  let read = (): void => {};
  other.configs.gate = new Promise((resolve) => {
    read = resolve;
  });
  const late = other.weight(7);
  await other.changes.stop();
  read();
  await t.rejects(late, ending, 'its config was still being read');
  t.same(other.farms, []);
});

t.test('nothing changes before the balancer has started', async (t) => {
  const { changes, farms, weight } = setUp(t, false);
  const conflict = { code: 'BATON_CONFLICT', message: 'the start of the balancer is under way' };
  await t.rejects(weight(3), conflict);
  await t.rejects(changes.change({ kind: 'reload' }, 'you'), conflict);
  t.same(farms, []);
  changes.start();
  t.match(await weight(3), { changed: ['node n1: weight 1 -> 3'] });
});

t.test('a config that does not check, and a key that cannot change, change nothing', async (t) => {
  const { changes, farms, log, parts, reload, told } = setUp(t);
  const before = changes.running;
  await t.rejects(reload(TEXT.replace('nodes: [n1, n2]', 'nodes: [n7]')), { code: 'BATON_CONFIG' });
  await t.rejects(reload(`${TEXT}workers: 2\n`), {
    code: 'BATON_CONFLICT',
    message: 'these keys cannot change while the balancer runs: workers is 1, wanted 2',
    where: FILE,
    hint: /nothing was changed.*--replace/,
  });
  rmSync(FILE);
  await t.rejects(changes.change({ kind: 'reload' }, 'me'), { code: 'BATON_CONFIG' });
  t.equal(changes.running, before);
  t.same([farms, log, told, parts[0].steps], [[], [], [], []]);
  t.match(await reload(TEXT), { changed: [] });
});

t.test('an unknown name is refused and changes nothing', async (t) => {
  const { changes, farms, parts } = setUp(t);
  await t.rejects(changes.change({ kind: 'remove-node', node: 'n7' }, 'me'), {
    code: 'BATON_UNKNOWN',
    message: 'there is no node "n7"',
  });
  await t.rejects(changes.change({ kind: 'remove-node', node: 'n1' }, 'me'), {
    code: 'BATON_IN_USE',
  });
  t.same([farms, parts[0].steps], [[], []]);
});

t.test('parts that were prepared are given up when a later step fails', async (t) => {
  const { changes, engine, farms, log, parts, reload } = setUp(t);
  const before = changes.running;
  const [first, second] = parts;
  second.fails = 'prepare';
  await t.rejects(reload(`${TEXT}log: {level: debug}\n`), { message: 'cannot prepare' });
  t.same(first.steps.splice(0), ['prepare debug', 'abandon']);
  t.same(second.steps.splice(0), ['prepare debug']);
  // The first one's failure keeps neither the second one from its step nor the reason from us.
  second.fails = '';
  first.fails = 'abandon';
  engine.fails = true;
  await t.rejects(reload(heavier(5)), { code: 'BATON_IN_USE' });
  t.same(first.steps.splice(0), ['prepare info', 'abandon']);
  t.same(second.steps.splice(0), ['prepare info', 'abandon']);
  t.match(log, [/not fully given up: cannot abandon/]);
  t.equal(changes.running, before);
  t.same(farms, []);
});

t.test('a change whose farm is in place is in force, although a part fails then', async (t) => {
  const { changes, log, parts, reload, weight } = setUp(t);
  const [first, second] = parts;
  first.fails = 'commit';
  t.match(await reload(heavier(5)), { changed: ['node n1: weight 1 -> 5'] });
  t.same(second.steps, ['prepare info', 'commit']);
  t.match(log[0], /not fully in force: cannot commit/);
  first.fails = '';
  t.equal(changes.running.config.nodes[0]?.weight, 5);
  t.match(await weight(6), { changed: ['node n1: weight 5 -> 6'] });
});

t.test('an edit leaves the other parts alone', async (t) => {
  const { parts, weight } = setUp(t);
  parts[0].fails = 'prepare';
  t.match(await weight(5), { changed: ['node n1: weight 1 -> 5'] });
  t.same(parts[0].steps, []);
});

t.test('a reload of the same file brings all parts to read theirs again', async (t) => {
  const { farms, parts, reload, told } = setUp(t);
  t.match(await reload(TEXT), { changed: [], generation: 1 });
  t.same(parts[0].steps, ['prepare info', 'commit'], 'certificates and tokens are read again');
  t.same([farms, told], [[], []], 'the farm is as it was');
  parts[1].warnings = ['the certificate has ended'];
  t.same((await reload(TEXT)).warnings, ['the certificate has ended'], 'the operator reads this');
});

t.test('a reload takes what the file says, also against edits', async (t) => {
  const { changes, reload, weight } = setUp(t);
  await weight(5);
  t.match(await reload(TEXT), { changed: ['node n1: weight 5 -> 1'] });
  t.same(await changes.config(), { text: TEXT, file: FILE, saved: true });
});

t.test('a reload of another file makes it the file', async (t) => {
  const { changes } = setUp(t);
  const other = join(directory, 'other.yaml');
  writeFileSync(other, TEXT.replace('the farm', 'another farm'));
  await changes.change({ kind: 'reload', file: other }, 'me');
  t.match(await changes.config(), { file: other, saved: true, text: /^# another farm/ });
});

t.test('the config that runs is shown and saved with the comments of the file', async (t) => {
  const { changes, weight } = setUp(t);
  t.same(await changes.config(), { text: TEXT, file: FILE, saved: true });
  t.same(await changes.save({}), { file: FILE, written: false });
  await weight(5);
  const shown = await changes.config();
  t.match(shown, { file: FILE, saved: false, text: /^# the farm\n[\s\S]*# the old one/ });
  t.match(parse(shown.text), { nodes: [{ name: 'n1', weight: 5 }, { name: 'n2' }] });
  t.equal(readFileSync(FILE, 'utf8'), TEXT, 'to show is not to write');
  t.same(await changes.save({}), { file: FILE, written: true });
  t.equal(readFileSync(FILE, 'utf8'), shown.text);
  t.same(await changes.config(), { ...shown, saved: true });
  t.match(await changes.change({ kind: 'reload' }, 'me'), { changed: [] });
});

t.test('a file that somebody has changed is overwritten only by force', async (t) => {
  const { changes, weight } = setUp(t);
  await weight(5);
  writeFileSync(FILE, `${TEXT}# a note\n`);
  const conflict = { code: 'BATON_CONFLICT', where: FILE, hint: /baton reload.*--force/ };
  await t.rejects(changes.save({}), { ...conflict, message: /was changed since/ });
  t.equal(readFileSync(FILE, 'utf8'), `${TEXT}# a note\n`);
  t.same(await changes.save({ force: true }), { file: FILE, written: true });
  t.match(loadBalancerFile(FILE).config.nodes, [{ weight: 5 }, { weight: 1 }]);
  rmSync(FILE);
  await t.rejects(changes.save({}), { ...conflict, message: /is gone or unreadable/ });
  t.same(await changes.save({ force: true }), { file: FILE, written: true });
  rmSync(FILE);
  execFileSync('mkfifo', [FILE]);
  await t.rejects(changes.save({}), { ...conflict, message: /is gone or unreadable/ }, 'a pipe');
  rmSync(FILE);
});

t.test('slots of removed objects are freed when no session holds them', async (t) => {
  const { engine, farm, farms, held, log, reload } = setUp(t);
  const slots = () => farm.farm.nodes.map(({ slot, retired }) => `${slot}${retired ? '-' : ''}`);
  held.add(0);
  const data = parse(TEXT) as { nodes: unknown[]; resources: unknown[] };
  data.nodes.shift();
  data.resources = [{ path: '/', nodes: ['n2'] }];
  await reload(stringify(data));
  t.same(slots(), ['0-', '1']);
  t.equal(await farm.collect(), false);
  const until = async (isTrue: () => boolean): Promise<void> => {
    for (const limit = Date.now() + 30_000; !isTrue() && Date.now() < limit; )
      await new Promise((resolve) => setTimeout(resolve, 20));
  };
  engine.fails = true;
  held.clear();
  await until(() => engine.refused >= 3);
  const warnings = log.filter((line) => line.startsWith('removed objects'));
  t.same(warnings, ['removed objects keep their slots: a thread cannot take the farm']);
  engine.fails = false;
  await until(() => farm.farm.nodes.length === 1);
  t.same(slots(), ['1'], 'by the search that `start` has begun');
  t.equal(farms.at(-1)?.generation, farm.farm.generation);
});
