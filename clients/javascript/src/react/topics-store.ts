/** Several topics' state, over one stream, and who wants to know of it. It follows while somebody does. */

import { answer, stop, type Stopped, type StopWhat } from "../control.js";
import { follow, type Stop } from "../follow.js";
import type { Problem } from "../problem.js";
import { Content } from "./content.js";
import { newestToken, type ConnectionState, type TopicOptions, type TopicState } from "./topic-store.js";

/** What the page has of one of the topics. */
export interface OneOfTopics extends Pick<TopicState, "messages" | "questions" | "incomplete"> {
  /** The topic is closed, and everything was read. */
  ended: boolean;
}

export interface TopicsState {
  /** By the topics' names. It is the same object for those that have not changed. */
  topics: Readonly<Record<string, OneOfTopics>>;
  /** `ended`: all have ended. */
  connection: ConnectionState;
  /** Why it was refused. */
  problem?: Problem | undefined;
}

export const NO_TOPICS: TopicsState = { topics: {}, connection: "connecting" };
const EMPTY: OneOfTopics = { messages: [], questions: [], ended: false, incomplete: false };

export class TopicsStore {
  /** The newest options; a token is asked of them each time. */
  options: TopicOptions;
  #state = NO_TOPICS;
  #topics: readonly string[] = [];
  #contents = new Map<string, Content>();
  #news = new Set<string>();
  #stop: Stop | undefined;
  #listeners = new Set<() => void>();
  #changed = false;

  constructor(
    private readonly url: string,
    options: TopicOptions,
  ) {
    this.options = options;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#follow();
    return () => {
      this.#listeners.delete(listener);
      if (!this.#listeners.size) this.#leave();
    };
  };

  state = (): TopicsState => this.#state;

  /** Follow these from now on. Those that it has already go on where they are. */
  show(topics: readonly string[]): void {
    if (topics.length === this.#topics.length && topics.every((topic, at) => topic === this.#topics[at])) return;
    this.#leave();
    this.#topics = [...new Set(topics)];
    for (const topic of this.#contents.keys()) if (!this.#topics.includes(topic)) this.#contents.delete(topic);
    for (const topic of this.#topics) {
      if (this.#contents.has(topic)) continue;
      this.#contents.set(topic, new Content(this.options.join, () => this.options));
      this.#news.add(topic);
    }
    this.#set({ connection: "connecting" });
    if (this.#listeners.size) this.#follow();
  }

  answer = (topic: string, id: string, data: unknown): Promise<{ offset: number }> =>
    answer(this.#urlOf(topic), id, data, this.options);

  stop = (topic: string, what: StopWhat = {}): Promise<Stopped> => stop(this.#urlOf(topic), { ...this.options, ...what });

  #urlOf(topic: string): URL {
    const at = new URL(this.url, globalThis.location?.href);
    at.pathname += `/${encodeURIComponent(topic)}`;
    return at;
  }

  #leave(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  #follow(): void {
    if (!this.#topics.length || this.#state.connection === "ended") return;
    const at = new URL(this.url, globalThis.location?.href);
    for (const topic of this.#topics) at.searchParams.append("topic", topic);
    const places = this.#topics.map((topic) => this.#contents.get(topic)?.next ?? "");
    this.#stop = follow(
      at,
      {
        "*": (name, data, offset, topic) => this.#event(name, data, offset, topic!),
        connection: (live) => this.#set({ connection: live ? "live" : "reconnecting" }),
        refused: (problem) => this.#set({ connection: "refused", problem }),
      },
      {
        ...this.options,
        token: newestToken(() => this.options),
        lastEventId: places.some((place) => place !== "") ? places.join(".") : undefined,
      },
    );
  }

  #event(name: string, data: any, offset: number, topic: string): void {
    this.#contents.get(topic)?.take(name, data, offset);
    this.#news.add(topic);
    if ([...this.#contents.values()].every(({ ended }) => ended)) this.#set({ connection: "ended" });
    else this.#tell();
  }

  #set(change: Partial<TopicsState>): void {
    this.#state = { ...this.#state, problem: undefined, ...change };
    this.#tell();
  }

  /** Tell once of everything that came in one piece. */
  #tell(): void {
    if (this.#changed) return;
    this.#changed = true;
    queueMicrotask(() => {
      this.#changed = false;
      const before = this.#state.topics;
      const topics = Object.fromEntries(
        this.#topics.map((topic) => [topic, this.#news.has(topic) ? shown(this.#contents.get(topic)) : before[topic] ?? EMPTY]),
      );
      this.#news.clear();
      this.#state = { ...this.#state, topics };
      for (const listener of this.#listeners) listener();
    });
  }
}

function shown(content: Content | undefined): OneOfTopics {
  if (!content) return EMPTY;
  const { messages, questions, ended, incomplete } = content;
  return { messages, questions, ended, incomplete };
}
