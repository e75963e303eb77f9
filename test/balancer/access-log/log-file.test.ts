/** The file of the access log: what is refused, and what a full disk leaves in it. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { LineBuffer } from '../../../src/balancer/access-log/line-buffer.js';
import { LogFile } from '../../../src/balancer/access-log/log-file.js';

const bytesOf = (text: string): Uint8Array => Buffer.from(text, 'latin1');

function append(file: LogFile, text: string): void {
  const bytes = bytesOf(text);
  const { bytes: written, error } = file.append(bytes, bytes.length);
  if (error !== undefined || written !== bytes.length) throw error;
}

t.test('a new file, and an old one that is continued', async (t) => {
  const name = path.join(t.testdir(), 'access.json');
  const file = LogFile.open(name);
  t.equal(statSync(name).mode & 0o777, 0o640 & ~process.umask());
  append(file, 'one\ntwo\n');
  file.close();
  const again = LogFile.open(name);
  append(again, 'three\n');
  again.close();
  t.equal(readFileSync(name, 'utf8'), 'one\ntwo\nthree\n');
});

t.test('a line that a killed process left torn is ended first', async (t) => {
  const name = path.join(t.testdir({ log: 'one\ntw' }), 'log');
  const file = LogFile.open(name);
  append(file, 'three\n');
  append(file, 'four\n');
  file.close();
  t.equal(readFileSync(name, 'utf8'), 'one\ntw\nthree\nfour\n');
});

t.test('what cannot be a log is refused, with the reason', async (t) => {
  const directory = t.testdir({ file: '' });
  symlinkSync(path.join(directory, 'file'), path.join(directory, 'link'));
  execFileSync('mkfifo', [path.join(directory, 'fifo')]);
  mkdirSync(path.join(directory, 'closed'));
  chmodSync(path.join(directory, 'closed'), 0o500);
  const cases: [string, RegExp][] = [
    ['.', /it is a directory/],
    ['link', /it is a symbolic link/],
    ['fifo', /it is not a regular file/],
    ['none/access.json', /there is no such directory/],
    ['file/access.json', /a part of its path is not a directory/],
    ['/dev/null', /it is not a regular file/],
    // Root may write everywhere, except here.
    [process.getuid?.() === 0 ? '/proc/access.json' : 'closed/access.json', /no such|denied/],
  ];
  for (const [name, message] of cases) {
    const file = path.resolve(directory, name);
    t.throws(() => LogFile.open(file), { code: 'BATON_LOG', message, where: file }, name);
  }
});

const NO_MOUNT = process.getuid?.() !== 0 && 'needs root to mount a tmpfs';

/** Lines of 100 bytes, in a log on a disk of 64 KiB of which 24 KiB are free. */
class FullDisk {
  readonly name: string;
  readonly warnings: string[] = [];
  readonly infos: string[] = [];
  written = 0;
  lost = 0;
  added = 0;
  now = 0;
  private readonly ballast: string;
  private readonly buffer: LineBuffer;

  constructor(directory: string) {
    this.name = path.join(directory, 'access.json');
    this.ballast = path.join(directory, 'ballast');
    writeFileSync(this.ballast, Buffer.alloc(40_960));
    this.buffer = new LineBuffer(LogFile.open(this.name), {
      written: (lines) => {
        this.written += lines;
      },
      lost: (lines) => {
        this.lost += lines;
      },
      warn: (message) => this.warnings.push(message),
      info: (message) => this.infos.push(message),
      now: () => this.now,
    });
  }

  /** Writes batches of 30 lines, which do not end with a page. */
  write(batches: number): void {
    for (let batch = 0; batch < batches; batch++) {
      for (let i = 0; i < 30; i++) this.buffer.add(`${String(this.added++).padStart(99, '.')}\n`);
      this.buffer.flush();
    }
  }

  makeRoom(): void {
    rmSync(this.ballast);
  }

  lines(): string[] {
    return readFileSync(this.name, 'utf8').split('\n').slice(0, -1);
  }

  close(): void {
    this.buffer.close();
  }
}

async function onFullDisk(t: Test, body: (disk: FullDisk) => void): Promise<void> {
  const directory = path.join(t.testdir({ disk: {} }), 'disk');
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'baton-test', directory]);
  try {
    const disk = new FullDisk(directory);
    try {
      body(disk);
    } finally {
      disk.close();
    }
  } finally {
    execFileSync('umount', [directory]);
  }
}

t.test('a full disk has whole lines, and takes lines again', { skip: NO_MOUNT }, async (t) => {
  await onFullDisk(t, (disk) => {
    disk.write(20);
    t.ok(disk.lost > 0, `${disk.lost} of ${disk.added} lines do not fit`);
    t.ok(disk.written > 150, `${disk.written} do`);
    t.equal(disk.written + disk.lost, disk.added);
    t.equal(statSync(disk.name).size, disk.written * 100, 'the file ends with a whole line');
    t.equal(disk.warnings.length, 1, 'one warning for all');
    t.match(disk.warnings, [/lines of the access log were lost: ENOSPC/]);
    disk.now = 61_000;
    disk.write(1);
    t.equal(disk.warnings.length, 2, 'and one more a minute later');
    disk.makeRoom();
    const { lost } = disk;
    disk.write(5);
    t.equal(disk.lost, lost, 'then there is room');
    t.match(disk.infos, [/written again/]);
    t.equal(disk.lines().length, disk.written);
    t.ok(
      disk.lines().every((line) => line.length === 99),
      'every line is whole',
    );
  });
});

t.test('a torn line that cannot be removed has an end', { skip: NO_MOUNT }, async (t) => {
  await onFullDisk(t, (disk) => {
    execFileSync('chattr', ['+a', disk.name]);
    disk.write(20);
    t.ok(statSync(disk.name).size % 100 > 0, 'the file ends in the middle of a line');
    disk.makeRoom();
    disk.write(5);
    const whole = disk.lines().filter((line) => line.length === 99);
    t.equal(whole.length, disk.written);
    t.equal(disk.lines().length, disk.written + 1, 'the torn line is one by itself');
    execFileSync('chattr', ['-a', disk.name]);
  });
});
