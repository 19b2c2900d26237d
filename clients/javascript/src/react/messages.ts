/** The messages of a topic as a page shows them: pieces of a text joined, and what a restart abandons dropped. Pure. */

export interface Message {
  /** The place of the message, or of the last piece that is joined in it. */
  offset: number;
  /** The place of its first piece; it never changes, so it is a good key. */
  from: number;
  /** The name of its event; `message` without one. */
  event: string;
  data: any;
}

/** Whether the token stream `id` has written a message. */
export type WrittenBy = (message: Message, id: string) => boolean;

interface Shown {
  message: Message;
  /** Where each piece ends: its offset, and the length of the text up to there. */
  ends: [offset: number, length: number][];
}

export class Messages {
  #shown: Shown[] = [];

  /** `join` is the field whose text goes on from message to message, if there is one. */
  constructor(
    private readonly join: string | undefined,
    private readonly writtenBy: WrittenBy,
  ) {}

  /** All of them; a new array each time, with the same objects for those that have not changed. */
  get list(): Message[] {
    return this.#shown.map(({ message }) => message);
  }

  add(event: string, data: any, offset: number): void {
    const { join } = this;
    const text = this.#text(data);
    const last = this.#shown.at(-1);
    if (join !== undefined && text !== undefined && last && goesOn(last.message, event, data, offset, join)) {
      const joined: string = last.message.data[join] + text;
      last.message = { ...last.message, offset, data: { ...last.message.data, [join]: joined } };
      last.ends.push([offset, joined.length]);
    } else {
      this.#shown.push({ message: { offset, from: offset, event, data }, ends: [[offset, text?.length ?? 0]] });
    }
  }

  /** Drop what the stream `id` wrote from `offset` on. */
  restart(id: string, offset: number): void {
    this.#shown = this.#shown.flatMap((one) => {
      if (one.message.offset < offset || !this.writtenBy(one.message, id)) return [one];
      const ends = one.ends.filter(([at]) => at < offset);
      const end = ends.at(-1);
      if (!end || this.join === undefined) return [];
      const data = { ...one.message.data, [this.join]: one.message.data[this.join].slice(0, end[1]) };
      return [{ message: { ...one.message, offset: end[0], data }, ends }];
    });
  }

  clear(): void {
    this.#shown = [];
  }

  #text(data: any): string | undefined {
    if (this.join === undefined || typeof data !== "object" || data === null) return undefined;
    const text: unknown = data[this.join];
    return typeof text === "string" ? text : undefined;
  }
}

/** Whether a message continues the one before it: it follows it, and differs in nothing but the text. */
function goesOn(before: Message, event: string, data: any, offset: number, join: string): boolean {
  if (before.event !== event || before.offset + 1 !== offset || typeof before.data?.[join] !== "string") return false;
  const names = Object.keys(data);
  if (names.length !== Object.keys(before.data).length) return false;
  return names.every((name) => name === join || JSON.stringify(data[name]) === JSON.stringify(before.data[name]));
}
