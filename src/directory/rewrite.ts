/** Rewriting: the path that a node gets instead of the one that the client asked for. */
import { pathProblem } from './pattern.js';

/** In a template, what follows the matched path. */
const REST = '%p';

/**
 * Says in words why `template` is not the path of a request; undefined when it is one.
 * @param isPrefix whether the resource's path ends in "/", so that something may follow it
 */
export function rewriteProblem(template: string, isPrefix: boolean): string | undefined {
  if (template.includes('?')) return 'it cannot contain "?": the query stays as the client sent it';
  if (template.includes('#')) return 'it cannot contain "#": a request has no fragment';
  const parts = template.split(REST);
  if (parts.length > 2) return '"%p" may occur only once';
  if (parts.length === 2 && !isPrefix)
    return '"%p" stands for what follows a path that ends in "/", but the path of this resource ends in none';
  // The slash keeps "%2" before "%p" from becoming an escape.
  return pathProblem(parts.join('/'));
}
