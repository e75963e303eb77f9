/**
 * The pins of the XDP program and its maps, one directory for each interface:
 *
 *     /sys/fs/bpf/baton/INTERFACE-NAMESPACE/{baton_xdp,control,sessions,...}
 *
 * NAMESPACE is the inode of the network namespace. A pin keeps its map in memory even when nothing
 * else uses it. So the pins of an interface that is gone must be removed.
 */
import {
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmdirSync,
  statfsSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { BatonError, reasonOf } from '../base/errors.js';
import { runTool } from './command.js';
import { interfaceNames } from './interfaces.js';
import { namespaceInode } from './namespace.js';

const BPF_FILE_SYSTEM = '/sys/fs/bpf';
/** BPF_FS_MAGIC of linux/magic.h. */
const BPF_FS_MAGIC = 0xcafe4a11;
export const PIN_ROOT = join(BPF_FILE_SYSTEM, 'baton');
/** Where `ip netns` keeps namespaces that have no process. */
const NAMED_NAMESPACES = '/run/netns';
const NAME = /^(?!\.{1,2}$)[^\s/:\0]{1,15}-\d{1,20}$/;

/** Name of the directory of an interface's pins. */
export function pinName(interfaceName: string): string {
  return `${interfaceName}-${namespaceInode()}`;
}

/** Whether a text is such a name. If so, `pinDirectory` stays below PIN_ROOT. */
export function isPinName(text: string): boolean {
  return NAME.test(text);
}

export function pinDirectory(name: string): string {
  return join(PIN_ROOT, name);
}

/** Whether there are pins of this name. */
export function hasPins(name: string): boolean {
  return statSync(pinDirectory(name), { throwIfNoEntry: false })?.isDirectory() === true;
}

/**
 * Makes an empty directory for pins. Mounts the BPF file system if it is not mounted.
 * @returns its path
 * @throws BatonError BATON_SYSTEM
 */
export async function makePinDirectory(name: string): Promise<string> {
  if (!isBpfFileSystem()) await mount();
  const directory = pinDirectory(name);
  removePins(name);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw refused(directory, 'created', error);
  }
  return directory;
}

/** Removes the pins of this name. False when there were none. Throws BatonError BATON_SYSTEM. */
export function removePins(name: string): boolean {
  if (!hasPins(name)) return false;
  const directory = pinDirectory(name);
  try {
    for (const file of readdirSync(directory)) unlinkSync(join(directory, file));
    rmdirSync(directory);
  } catch (error) {
    throw refused(directory, 'removed', error);
  }
  return true;
}

/** Removes pins of interfaces and network namespaces that no longer exist. Returns their names. */
export function removeStalePins(): string[] {
  const removed: string[] = [];
  let names: string[];
  try {
    names = readdirSync(PIN_ROOT).filter(isPinName);
  } catch {
    return removed;
  }
  if (names.length === 0) return removed;
  const interfaces = interfaceNames();
  const namespaces = livingNamespaces();
  const own = namespaceInode();
  for (const name of names) {
    const cut = name.lastIndexOf('-');
    const inode = name.slice(cut + 1);
    const stale = inode === own ? !interfaces.includes(name.slice(0, cut)) : !namespaces.has(inode);
    if (stale && removePins(name)) removed.push(name);
  }
  return removed;
}

/** Inodes of the network namespaces of all processes, and of those that have names. */
function livingNamespaces(): Set<string> {
  const found = new Set<string>();
  for (const process of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      found.add(/\d+/.exec(readlinkSync(`/proc/${process}/ns/net`))?.[0] ?? '');
    } catch {
      // The process ended meanwhile.
    }
  }
  try {
    for (const name of readdirSync(NAMED_NAMESPACES)) {
      found.add(String(statSync(join(NAMED_NAMESPACES, name)).ino));
    }
  } catch {
    // The directory does not exist: no namespace has a name.
  }
  return found;
}

function isBpfFileSystem(): boolean {
  try {
    return statfsSync(BPF_FILE_SYSTEM).type === BPF_FS_MAGIC;
  } catch {
    return false;
  }
}

async function mount(): Promise<void> {
  try {
    await runTool('mount', ['-t', 'bpf', 'bpf', BPF_FILE_SYSTEM]);
  } catch (error) {
    throw new BatonError('BATON_SYSTEM', `cannot mount the BPF file system: ${reasonOf(error)}`, {
      where: BPF_FILE_SYSTEM,
      hint: `\`mount -t bpf bpf ${BPF_FILE_SYSTEM}\` mounts it`,
      cause: error,
    });
  }
}

function refused(directory: string, verb: string, error: unknown): BatonError {
  return new BatonError('BATON_SYSTEM', `cannot be ${verb}: ${reasonOf(error)}`, {
    where: directory,
    cause: error,
  });
}
