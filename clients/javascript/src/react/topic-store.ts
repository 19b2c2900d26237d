/** One topic's state, and who wants to know of it. It follows while somebody does. */

import { answer, stop, type Stopped, type StopWhat } from "../control.js";
import { follow, type FollowOptions, type Stop } from "../follow.js";
import type { Problem } from "../problem.js";
import { Messages, type Message, type WrittenBy } from "./messages.js";

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
  #messages: Messages;
  #questions: readonly Question[] = [];
  #next: number | undefined; // where to go on
  #stop: Stop | undefined;
  #listeners = new Set<() => void>();
  #changed = false;

  constructor(
    private readonly url: string,
    options: TopicOptions,
  ) {
    this.options = options;
    this.#messages = new Messages(options.join, (message, id) => {
      const { join, writtenBy } = this.options;
      return writtenBy ? writtenBy(message, id) : join !== undefined && typeof message.data?.[join] === "string";
    });
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
    const { token } = this.options;
    this.#stop = follow(
      this.url,
      {
        "*": (name, data, offset) => this.#event(name, data, offset),
        connection: (live) => this.#set({ connection: live ? "live" : "reconnecting" }),
        refused: (problem) => this.#set({ connection: "refused", problem }),
      },
      {
        ...this.options,
        token:
          typeof token === "function"
            ? (refused) => (typeof this.options.token === "function" ? this.options.token(refused) : this.options.token ?? "")
            : token,
        lastEventId: this.#next,
      },
    );
  }

  #event(name: string, data: any, offset: number): void {
    this.#next = offset + 1;
    if (name === "end") return this.#set({ connection: "ended" });
    if (name === "reset") {
      this.#messages.clear();
      this.#questions = [];
      this.#set({ incomplete: true });
    } else if (name === "restart") {
      this.#messages.restart(data.id, data.offset);
    } else {
      this.#messages.add(name, data, offset);
      if (name === "question") this.#questions = [...this.#without(data.id), { ...data, offset }];
      if (name === "answer") this.#questions = this.#without(data.id);
    }
    this.#tell();
  }

  #without(id: string): Question[] {
    return this.#questions.filter((one) => one.id !== id);
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
      this.#state = { ...this.#state, messages: this.#messages.list, questions: this.#questions };
      for (const listener of this.#listeners) listener();
    });
  }
}
