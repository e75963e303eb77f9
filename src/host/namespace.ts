/** The network namespace of this process. */
import { readlinkSync } from 'node:fs';

/** Inode of this process's network namespace. */
export function namespaceInode(): string {
  return /\d+/.exec(readlinkSync('/proc/self/ns/net'))?.[0] ?? '0';
}
