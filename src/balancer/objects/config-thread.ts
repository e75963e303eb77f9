/**
 * The config thread reads, checks and writes configs, so that a large one never keeps the main
 * thread from its work. A composition root; config-handle.ts starts it.
 */
import { setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { sharedArrays } from '../../base/arrays.js';
import { toPlainError } from '../../base/thread-errors.js';
import { checkData } from '../../config/check-data.js';
import type { BalancerData } from '../../config/data.js';
import { type BalancerConfig, loadBalancerFile } from '../../config/load.js';
import { renderConfig } from '../../config/render.js';
import { packResources, unpackResources } from '../../config/resource-pieces.js';
import { type DirectoryImage, directoryImage } from '../../directory/directory-image.js';
import type { ConfigAnswer, ConfigQuestion, PackedData } from './config-messages.js';

/** nice(2) of this thread. */
const NICE = 5;

function answer(question: ConfigQuestion): ConfigAnswer {
  switch (question.kind) {
    case 'load': {
      const { config, data, text } = loadBalancerFile(question.file);
      const { resources, ...rest } = data;
      const packed = { rest, resources: packResources(resources) };
      return { kind: 'loaded', text, data: packed, ...withDirectory(config) };
    }
    case 'check':
      return {
        kind: 'checked',
        ...withDirectory(checkData(unpack(question.data), question.file)),
      };
    case 'render':
      return { kind: 'rendered', text: renderConfig(question.text, unpack(question.data)) };
  }
}

function withDirectory(config: BalancerConfig): {
  config: BalancerConfig;
  directory: DirectoryImage;
} {
  // The main thread makes the resources from the data, a piece at a time.
  return {
    config: { ...config, resources: [] },
    directory: directoryImage(config.resources, undefined, sharedArrays),
  };
}

function unpack({ rest, resources }: PackedData): BalancerData {
  const data = resources === undefined ? rest : { ...rest, resources: unpackResources(resources) };
  // The check finds out whether it has this form.
  return data as BalancerData;
}

// On Linux the priority is that of the calling thread alone. When all CPUs are busy, engine threads
// get three times as much time as this one.
setPriority(NICE);
parentPort?.on('message', ({ id, question }: { id: number; question: ConfigQuestion }) => {
  let message: ConfigAnswer;
  try {
    message = answer(question);
  } catch (error) {
    message = { kind: 'failed', error: toPlainError(error) };
  }
  parentPort?.postMessage({ id, answer: message });
});
