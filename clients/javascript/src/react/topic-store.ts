/** One topic's state, and who wants to know of it. It follows while somebody does. */

import { answer, stop, type Stopped, type StopWhat } from "../control.js";
import { follow, type FollowOptions, type Stop } from "../follow.js";
import type { Problem } from "../problem.js";
import { Content } from "./content.js";
import type { Message, WrittenBy } from "./messages.js";

/** `ended`: the topic is closed, and everything was read. `refused`: the service does not let this page read it. */
export type ConnectionState = "connecting" | "live" | "reconnecting" | "ended" | "refused";

/** Somebody waits for an answer to it. */
export interface Question {
  id: string;
  question: any;
  /** The place of the event that asks it. */
  offset: number;
}

export interface TopicState {
  messages: readonly Message[];
  /** Those that nobody has answered yet, in the order in which they came. */
  questions: readonly Question[];
  connection: ConnectionState;
  /** Why it was refused. */
  problem?: Problem | undefined;
  /** Messages were gone before this page could read them: what it shows has lost its beginning. */
  incomplete: boolean;
}

export interface TopicOptions extends Omit<FollowOptions, "signal" | "lastEventId"> {
  /** The field of token messages whose text goes on in the next one: such messages are given as one. */
  join?: string | undefined;
  /** What a restart of the stream `id` drops, of what came since; without it, every message that has the text of `join`. */
  writtenBy?: WrittenBy | undefined;
}

export const NOTHING: TopicState = { messages: [], questions: [], connection: "connecting", incomplete: false };

export class TopicStore {
  /** The newest options; a token is asked of them each time. */
  options: TopicOptions;
  #state = NOTHING;
  #content: Content;
  #stop: Stop | undefined;
  #listeners = new Set<() => void>();
  #changed = false;

  constructor(
    private readonly url: string,
    options: TopicOptions,
  ) {
    this.options = options;
    this.#content = new Content(options.join, () => this.options);
  }

  /** Be told of changes, until the returned function is called. The first listener begins to follow, the last ends it. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#follow();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size) return;
      this.#stop?.();
      this.#stop = undefined;
    };
  };

  state = (): TopicState => this.#state;

  answer = (id: string, data: unknown): Promise<{ offset: number }> => answer(this.url, id, data, this.options);

  stop = (what: StopWhat = {}): Promise<Stopped> => stop(this.url, { ...this.options, ...what });

  #follow(): void {
    if (this.#state.connection === "ended") return;
    this.#stop = follow(
      this.url,
      {
        "*": (name, data, offset) => this.#event(name, data, offset),
        connection: (live) => this.#set({ connection: live ? "live" : "reconnecting" }),
        refused: (problem) => this.#set({ connection: "refused", problem }),
      },
      {
        ...this.options,
        token: newestToken(() => this.options),
        lastEventId: this.#content.next,
      },
    );
  }

  #event(name: string, data: any, offset: number): void {
    this.#content.take(name, data, offset);
    if (name === "end") return this.#set({ connection: "ended" });
    if (name === "reset") this.#set({ incomplete: true });
    this.#tell();
  }

  #set(change: Partial<TopicState>): void {
    this.#state = { ...this.#state, problem: undefined, ...change };
    this.#tell();
  }

  /** Tell once of everything that came in one piece: a history of thousands is one change. */
  #tell(): void {
    if (this.#changed) return;
    this.#changed = true;
    queueMicrotask(() => {
      this.#changed = false;
      this.#state = { ...this.#state, messages: this.#content.messages, questions: this.#content.questions };
      for (const listener of this.#listeners) listener();
    });
  }
}

/** Return the token to follow with: where it is a function, the newest one is asked, and not the first. */
export function newestToken(options: () => TopicOptions): TopicOptions["token"] {
  const { token } = options();
  if (typeof token !== "function") return token;
  return (refused) => {
    const newest = options().token;
    return typeof newest === "function" ? newest(refused) : newest ?? "";
  };
}
