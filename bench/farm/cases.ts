/** The requests of the farm benchmark. */

export interface Case {
  name: string;
  file: string;
  bytes: number;
  connections: number;
  /** Threads of wrk. */
  threads: number;
  /** Whether each request has a connection of its own. Otherwise connections are kept alive. */
  close: boolean;
}

export const CASES: readonly Case[] = [
  {
    name: '1 KB, a connection per request',
    file: '1k.bin',
    bytes: 1024,
    connections: 32,
    threads: 1,
    close: true,
  },
  {
    name: '1 KB, kept alive',
    file: '1k.bin',
    bytes: 1024,
    connections: 32,
    threads: 1,
    close: false,
  },
  {
    name: '1 MB, a connection per request',
    file: '1m.bin',
    bytes: 1_000_000,
    connections: 8,
    threads: 1,
    close: true,
  },
  {
    name: '10 MB, a connection per request',
    file: '10m.bin',
    bytes: 10_000_000,
    connections: 4,
    threads: 1,
    close: true,
  },
  {
    name: '64 KB, 1,000 connections kept alive',
    file: '64k.bin',
    bytes: 65_536,
    connections: 1000,
    threads: 2,
    close: false,
  },
];
