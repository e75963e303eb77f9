/**
 * Changes YAML text so that it has other values, and leaves the text of all other values as it is.
 * It walks the parsed file and the new values side by side, and collects replacements of ranges of
 * the text. The caller checks the result, so rare forms may fail here.
 *
 *     nodes:                        an item of a block list or map has whole lines, with the
 *       # rack 1                    comment lines above it
 *       - {name: n1, weight: 2}     a flow list or map is one range of text
 */
import { isDeepStrictEqual } from 'node:util';
import {
  Document,
  isCollection,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  type Pair,
  type ParsedNode,
  parseDocument,
  Scalar,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';

/** Replaces text[start, end). */
interface Replacement {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** Whole lines. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/** Something that this file cannot change in place. */
class Unsupported extends Error {}

type Values = Readonly<Record<string, unknown>>;
type Item = ParsedNode | Pair<ParsedNode, ParsedNode | null>;

/**
 * Returns the text with the values of `data`.
 * @throws Error when the text has a form that cannot be changed in place
 */
export function splice(given: string, data: Values): string {
  const text = given === '' || given.endsWith('\n') ? given : `${given}\n`;
  const document = parseDocument(text, { logLevel: 'error' });
  const { contents } = document;
  if (document.errors.length > 0 || !isMap(contents)) throw new Unsupported();
  const splicer = new Splicer(text, document);
  splicer.reconcile(contents as ParsedNode, data);
  return splicer.result(0, text.length);
}

class Splicer {
  private replacements: Replacement[] = [];
  private readonly lineEnd: string;
  /** The file is JSON, and stays JSON. */
  private readonly isJson: boolean;

  constructor(
    private readonly text: string,
    private readonly document: Document.Parsed,
  ) {
    this.lineEnd = text.includes('\r\n') ? '\r\n' : '\n';
    this.isJson = isJson(text);
  }

  /** text[start, end) with the replacements inside it. */
  result(start: number, end: number): string {
    const inside = this.replacements
      .filter((one) => one.start >= start && one.end <= end)
      .sort((a, b) => a.start - b.start || a.end - b.end);
    let result = '';
    let at = start;
    for (const one of inside) {
      if (one.start < at) throw new Unsupported();
      result += this.text.slice(at, one.start) + one.text;
      at = one.end;
    }
    return result + this.text.slice(at, end);
  }

  /** Makes the text of `node` a text of `value`. */
  reconcile(node: ParsedNode, value: unknown): void {
    if (isDeepStrictEqual(node.toJS(this.document), value)) return;
    if (isMap(node) && isValues(value)) this.reconcileItems(node, pairsOf(node, value));
    else if (isSeq(node) && Array.isArray(value) && value.length > 0)
      this.reconcileItems(node, entriesOf(node, value, this.document));
    else this.replaceNode(node, value);
  }

  private replaceNode(node: ParsedNode, value: unknown): void {
    const style = isScalar(node) ? node : undefined;
    this.replace(node.range[0], this.contentEnd(node), this.flowText(value, style, false));
  }

  private reconcileItems(node: YAMLMap | YAMLSeq, given: readonly Wanted[]): void {
    const items = node.items as Item[];
    const index = new Map(items.map((item, at) => [item, at]));
    let latest = -1;
    const wanted = given.map((one) => {
      const at = one.item === undefined ? latest : index.get(one.item)!;
      // What changes its place is removed here and written again there.
      if (at < latest) return { ...one, item: undefined };
      latest = at;
      return one;
    });
    if (node.flow === true) this.reconcileFlow(node, items, wanted);
    else if (items.length === 0 || wanted.length === 0)
      // Without any item it needs another form.
      this.replaceNode(node as ParsedNode, isSeq(node) ? [] : {});
    else this.reconcileBlock(items, index, wanted, isSeq(node));
  }

  private reconcileBlock(
    items: readonly Item[],
    index: ReadonlyMap<Item, number>,
    wanted: readonly Wanted[],
    inList: boolean,
  ): void {
    const spans = items.map((item) => this.linesOf(item, inList));
    this.removeBlockItems(items, spans, new Set(wanted.map(({ item }) => item)), inList);
    const sibling = items.at(-1)!;
    const first = this.prefixOf(sibling, inList);
    const lastKept = wanted.findLastIndex(({ item }) => item !== undefined);
    let at = spans[0]!.start;
    for (const [position, { item, key, value }] of wanted.entries()) {
      if (item !== undefined) {
        at = spans[index.get(item)!]!.end;
        this.reconcileItem(item, value);
        continue;
      }
      // What is new behind the last item that stays comes at the end.
      if (position > lastKept) at = spans.at(-1)!.end;
      const block = this.blockLines(first, key, value, sibling);
      this.replace(at, at, block.map((line) => line + this.lineEnd).join(''));
    }
  }

  private removeBlockItems(
    items: readonly Item[],
    spans: readonly Span[],
    kept: ReadonlySet<Item | undefined>,
    inList: boolean,
  ): void {
    let from = 0;
    const firstKept = items.findIndex((item) => kept.has(item));
    if (!inList && firstKept > 0 && this.isBehindDash(items[0]!)) {
      // The dash of the list item that contains this map must stay.
      this.replace(this.itemStart(items[0]!), this.itemStart(items[firstKept]!), '');
      from = firstKept;
    }
    for (let at = from; at < items.length; at++) {
      if (kept.has(items[at])) continue;
      const { start, end } = spans[at]!;
      // Of the empty lines above and below the item one is enough.
      const gapAbove = start > 0 && this.isEmptyLine(this.lineStart(start - 1));
      const gapBelow = end === this.text.length || this.isEmptyLine(end);
      if (!gapAbove || !gapBelow) this.replace(start, end, '');
      else if (at < items.length - 1) this.replace(start, this.nextLine(end), '');
      else if (kept.has(items[at - 1])) this.replace(this.lineStart(start - 1), end, '');
      else this.replace(start, end, '');
    }
  }

  private reconcileItem(item: Item, value: unknown): void {
    if (!isPair(item)) this.reconcile(item, value);
    else if (item.value !== null) this.reconcile(item.value, value);
    else throw new Unsupported();
  }

  /** A flow list or map is written again, with the text of each item that stays. */
  private reconcileFlow(
    node: YAMLMap | YAMLSeq,
    items: readonly Item[],
    wanted: readonly Wanted[],
  ): void {
    const [start, end] = (node as ParsedNode).range;
    const first = items[0];
    const last = items.at(-1);
    if (first === undefined || last === undefined || wanted.length === 0) {
      const value = isSeq(node)
        ? wanted.map((one) => one.value)
        : Object.fromEntries(wanted.map((one) => [one.key, one.value]));
      this.replace(start, end, this.flowText(value, undefined, false));
      return;
    }
    if (wanted.length === items.length && wanted.every(({ item }) => item !== undefined)) {
      for (const { item, value } of wanted) if (item !== undefined) this.reconcileItem(item, value);
      return;
    }
    const before = items.at(-2);
    const between =
      before === undefined ? '' : this.text.slice(this.itemEnd(before), this.itemStart(last));
    const separator = /^\s*,\s*$/.test(between) && between !== ',' ? between : ', ';
    const padded = this.text[start + 1] === ' ';
    const texts = wanted.map(({ item, key, value }) => {
      if (item === undefined) {
        const text = this.flowText(value, undefined, padded);
        if (key === undefined) return text;
        return `${this.isJson ? JSON.stringify(key) : key}: ${text}`;
      }
      const outer = this.replacements;
      this.replacements = [];
      this.reconcileItem(item, value);
      const text = this.result(this.itemStart(item), this.itemEnd(item));
      this.replacements = outer;
      return text;
    });
    const opening = this.text.slice(start, this.itemStart(first));
    const closing = this.text.slice(this.itemEnd(last), end);
    this.replace(start, end, opening + texts.join(separator) + closing);
  }

  private replace(start: number, end: number, text: string): void {
    this.replacements.push({ start, end, text });
  }

  private itemStart(item: Item): number {
    return isPair(item) ? item.key.range[0] : item.range[0];
  }

  private itemEnd(item: Item): number {
    if (!isPair(item)) return this.contentEnd(item);
    return item.value === null ? item.key.range[1] : this.contentEnd(item.value);
  }

  /** The offset behind the last character of the value itself. */
  private contentEnd(node: ParsedNode): number {
    if (isCollection(node) && node.flow !== true) {
      const last = node.items.at(-1) as Item | undefined;
      if (last !== undefined) return this.itemEnd(last);
    }
    return node.range[1];
  }

  /**
   * The lines of an item of a block list or map: those with its text, the comment lines directly
   * above it, and further comment lines behind it that are indented deeper than the item.
   */
  private linesOf(item: Item, inList: boolean): Span {
    const { text } = this;
    const column = this.prefixOf(item, inList).search(/[^ ]|$/);
    let start = this.lineStart(this.itemStart(item));
    while (start > 0) {
      const above = this.lineStart(start - 1);
      if (!isComment(text.slice(above, start), (indent) => indent === column)) break;
      start = above;
    }
    const contentEnd = this.itemEnd(item);
    let end = text[contentEnd - 1] === '\n' ? contentEnd : this.nextLine(contentEnd);
    for (;;) {
      const next = this.nextLine(end);
      if (next === end || !isComment(text.slice(end, next), (indent) => indent > column)) break;
      end = next;
    }
    return { start, end };
  }

  /** What precedes an item in its line: its indentation, and in a list the dash. */
  private prefixOf(item: Item, inList: boolean): string {
    const start = this.itemStart(item);
    const prefix = this.text.slice(this.lineStart(start), start);
    if (inList ? /^ *- +$/.test(prefix) : /^ *$/.test(prefix)) return prefix;
    // The first key of a map in a list is behind the dash.
    if (!inList && /^ *- +$/.test(prefix)) return prefix.replace('-', ' ');
    throw new Unsupported();
  }

  private isBehindDash(item: Item): boolean {
    const start = this.itemStart(item);
    return this.text.slice(this.lineStart(start), start).includes('-');
  }

  private isEmptyLine(start: number): boolean {
    return this.text.slice(start, this.nextLine(start)).trim() === '';
  }

  /** The lines of a new item, in the style of a sibling. */
  private blockLines(
    first: string,
    key: string | undefined,
    value: unknown,
    sibling: Item,
  ): string[] {
    const document = new Document(key === undefined ? value : { [key]: value });
    let padded = false;
    if (isNode(sibling) && isCollection(sibling) && isCollection(document.contents)) {
      document.contents.flow = sibling.flow === true;
      padded = sibling.flow === true && this.text[sibling.range![0] + 1] === ' ';
    }
    if (isScalar(document.contents) && isScalar(sibling) && isQuoted(sibling))
      document.contents.type = sibling.type!;
    const siblings = isMap(sibling) ? sibling : undefined;
    if (isMap(document.contents)) {
      for (const { key, value } of document.contents.items) {
        const like: unknown = siblings?.get(isScalar(key) ? key.value : key, true);
        if (isScalar(value) && isScalar(like) && isQuoted(like)) value.type = like.type!;
        // Short lists of names are written in one line, unless the sibling is written otherwise.
        if (isSeq(value)) {
          value.flow = isSeq(like) ? like.flow === true : value.items.every(isScalar);
        }
      }
    }
    const options = { lineWidth: 0, flowCollectionPadding: padded } as const;
    const lines = document.toString(options).trimEnd().split('\n');
    const rest = ' '.repeat(first.length);
    return lines.map((line, index) => (line === '' ? '' : (index === 0 ? first : rest) + line));
  }

  /** A value in one line, valid inside a flow list too; a text is quoted like `style`. */
  private flowText(value: unknown, style: Scalar | undefined, padded: boolean): string {
    const document = new Document([value]);
    if (!isSeq(document.contents)) throw new Unsupported();
    document.contents.flow = true;
    const [item] = document.contents.items;
    if (isScalar(item) && style !== undefined && isQuoted(style)) item.type = style.type!;
    const options = { lineWidth: 0, flowCollectionPadding: padded } as const;
    const text = document.toString(
      this.isJson
        ? { ...options, defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'QUOTE_DOUBLE' }
        : options,
    );
    return text.trim().slice(1, -1).trim();
  }

  private lineStart(offset: number): number {
    return offset === 0 ? 0 : this.text.lastIndexOf('\n', offset - 1) + 1;
  }

  /** The start of the line after the one with this offset. */
  private nextLine(offset: number): number {
    const end = this.text.indexOf('\n', offset);
    return end < 0 ? this.text.length : end + 1;
  }
}

/** A new value, and the item of the file that it belongs to. */
interface Wanted {
  readonly item: Item | undefined;
  /** Of a map. */
  readonly key: string | undefined;
  readonly value: unknown;
}

/** The pairs that a map should have: those of the file in their order, then the new ones. */
function pairsOf(node: YAMLMap, values: Values): Wanted[] {
  const pairs = node.items as Pair<ParsedNode, ParsedNode | null>[];
  const keyOf = (pair: Pair<ParsedNode>): string => {
    if (isScalar(pair.key)) return String(pair.key.value);
    throw new Unsupported();
  };
  const present = new Set(pairs.map(keyOf));
  return [
    ...pairs
      .map((item) => ({ item, key: keyOf(item) }))
      .filter(({ key }) => Object.hasOwn(values, key))
      .map(({ item, key }) => ({ item, key, value: values[key] })),
    ...Object.entries(values)
      .filter(([key]) => !present.has(key))
      .map(([key, value]) => ({ item: undefined, key, value })),
  ];
}

/** The entries that a list should have, each with the item of the file for the same object. */
function entriesOf(node: YAMLSeq, values: readonly unknown[], document: Document): Wanted[] {
  const items = new Map<string, ParsedNode>();
  for (const item of node.items as ParsedNode[]) {
    const name = identity(item.toJS(document));
    if (items.has(name)) throw new Unsupported();
    items.set(name, item);
  }
  return values.map((value) => {
    const name = identity(value);
    const item = items.get(name);
    items.delete(name);
    return { item, key: undefined, value };
  });
}

/** What makes an entry of a list the same object: its name, or host and path, or its value. */
function identity(value: unknown): string {
  if (!isValues(value)) return JSON.stringify(value);
  const { name, host, path } = value;
  return JSON.stringify(name === undefined ? [host ?? null, path ?? null] : [name]);
}

function isValues(value: unknown): value is Values {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether the line is a comment whose indentation fits. */
function isComment(line: string, fits: (indent: number) => boolean): boolean {
  const indent = line.search(/[^ ]/);
  return line[indent] === '#' && fits(indent);
}

function isQuoted(scalar: Scalar): boolean {
  return scalar.type === Scalar.QUOTE_DOUBLE || scalar.type === Scalar.QUOTE_SINGLE;
}

/** Whether the text is a JSON object, which YAML parsers read too. */
function isJson(text: string): boolean {
  if (!/^\s*\{\s*"/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
