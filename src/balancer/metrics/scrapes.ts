/**
 * Answers scrapes. However many scrapers there are, one text is made at a time, and no text is made
 * more often than once in FRESH_MS: later scrapes share it. So scrapes cost the balancer little,
 * whoever sends them.
 */
const FRESH_MS = 200;

export class Scrapes {
  private readonly render: () => Promise<string>;
  private readonly now: () => number;
  private running: Promise<string> | undefined;
  private last: { text: string; at: number } | undefined;

  /**
   * @param render makes the text
   * @param now in ms, on a clock that does not jump
   */
  constructor(render: () => Promise<string>, now: () => number = () => performance.now()) {
    this.render = render;
    this.now = now;
  }

  /** The text of `/metrics`. Rejects when an engine thread does not answer. */
  text(): Promise<string> {
    const { last } = this;
    if (last !== undefined && this.now() - last.at < FRESH_MS) return Promise.resolve(last.text);
    this.running ??= this.make().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async make(): Promise<string> {
    const text = await this.render();
    this.last = { text, at: this.now() };
    return text;
  }
}
