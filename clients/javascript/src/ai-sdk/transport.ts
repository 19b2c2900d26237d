/** A transport for `useChat`: the answer comes from a topic, and outlives connections, reloads and retried steps. */

import type { ChatTransport, UIMessage, UIMessageChunk } from "ai";
import type { Access } from "../access.js";
import { stop as stopInTopic, type StopWhat } from "../control.js";
import { follow, type FollowOptions, type Stop } from "../follow.js";
import { problemOf, Refused } from "../problem.js";
import { settled } from "../settled.js";
import { from as beginning, tailOf } from "../tail.js";
import { Answer } from "./answer.js";

type Sending<M extends UIMessage> = Parameters<ChatTransport<M>["sendMessages"]>[0];
type Reconnecting<M extends UIMessage> = Parameters<ChatTransport<M>["reconnectToStream"]>[0];

/**
 * Brings the messages to what answers; it is done once they are accepted, and does not wait for the answer. A `Response`
 * that is not `ok` counts as refused.
 */
export type Send<M extends UIMessage> = (sending: Sending<M>) => Promise<unknown>;

export interface TopicChatTransportOptions<M extends UIMessage> extends Access {
  /** The URL of a chat's topic. */
  topic: (chatId: string) => string;
  send: Send<M>;
  /** What the chat's `stop()` stops in the topic. Without it the page stops reading, and the agent goes on. */
  stop?: ((chatId: string) => StopWhat) | undefined;
  silence?: FollowOptions["silence"];
  fetch?: FollowOptions["fetch"];
}

const LOOK_BACK = 1000; // messages among which the answer in progress most likely begins

/**
 * A transport on the topics of restate-pubsub, whose messages without an event name are UI message chunks.
 *
 * Before it sends, it opens the chat's topic at its end, so it misses nothing of the answer. A connection that is cut goes
 * on in the middle. `resumeStream` shows the answer in progress from its beginning, if there is one.
 */
export class TopicChatTransport<M extends UIMessage = UIMessage> implements ChatTransport<M> {
  /** A resumed answer comes from its beginning: what the page has of it is replaced. */
  readonly resumeStreamIsReplay = true;

  constructor(private readonly options: TopicChatTransportOptions<M>) {}

  async sendMessages(sending: Sending<M>): Promise<ReadableStream<UIMessageChunk>> {
    const reading = this.#read(sending.chatId, "latest", sending.abortSignal);
    await reading.begins;
    try {
      const answer = await this.options.send(sending);
      if (answer instanceof Response && !answer.ok) throw new Refused(await problemOf(answer));
    } catch (error) {
      reading.stop();
      throw error;
    }
    return reading.chunks;
  }

  async reconnectToStream({ chatId, abortSignal }: Reconnecting<M>): Promise<ReadableStream<UIMessageChunk> | null> {
    const tail = await tailOf(this.options.topic(chatId), { ...this.options, signal: abortSignal });
    for (const from of [`-${LOOK_BACK}`, "0"]) {
      const reading = this.#read(chatId, from, abortSignal, tail);
      const begins = await reading.begins;
      if (await reading.found) return reading.chunks;
      reading.stop();
      // An answer that ended among them is the last one; without any, it may have begun before them.
      if (begins === 0 || reading.seen()) return null;
    }
    return null;
  }

  /** Read a topic from a place. Chunks before `tail` are held back, and only those of the last answer are kept. */
  #read(chatId: string, from: string, signal: AbortSignal | undefined, tail = 0): Reading {
    const answer = new Answer();
    let controller!: ReadableStreamDefaultController<UIMessageChunk>;
    let held: UIMessageChunk[] | undefined = [];
    let seen = false;
    let unfollow: Stop = () => {};
    let open = true;
    let place = 0;
    const begins = settled<number>();
    const found = settled<boolean>();
    const chunks = new ReadableStream<UIMessageChunk>({ start: (given) => void (controller = given), cancel: () => stop() });

    const stop = () => {
      open = false;
      unfollow();
    };
    const caughtUp = () => {
      found.resolve(answer.running);
      for (const chunk of held ?? []) controller.enqueue(chunk);
      held = undefined;
    };
    const fail = (error: unknown) => {
      stop();
      begins.reject(error);
      found.reject(error);
      controller.error(error);
    };
    const event = (name: string, data: any, offset: number) => {
      const chunk = answer.take(name, data, offset);
      if (chunk) {
        seen = true;
        if (held && chunk.type === "start") held = [];
        if (held) held.push(chunk);
        else controller.enqueue(chunk);
      }
      if (name === "end") begins.resolve(place);
      if (held && (offset + 1 >= tail || name === "end")) caughtUp();
      if (held || !(name === "end" || (chunk && !answer.running))) return;
      stop();
      controller.close();
    };

    unfollow = follow(
      beginning(this.options.topic(chatId), from),
      {
        "*": event,
        connection: (live, next = 0) => {
          if (!live) return;
          place = next;
          begins.resolve(next);
          if (held && next >= tail) caughtUp();
        },
        refused: (problem) => fail(new Refused(problem)),
      },
      { ...this.options, signal },
    );
    const aborted = () => {
      if (open) this.#stop(chatId);
      fail(signal!.reason);
    };
    signal?.addEventListener("abort", aborted, { once: true });
    if (signal?.aborted) fail(signal.reason);
    return { chunks, begins: begins.promise, found: found.promise, seen: () => seen, stop };
  }

  /** Whoever reads wants no more of the answer: stop its writer, if that is wanted. What it said stays. */
  #stop(chatId: string): void {
    const what = this.options.stop?.(chatId);
    if (what) void stopInTopic(this.options.topic(chatId), { ...this.options, ...what }).catch(() => {});
  }
}

interface Reading {
  chunks: ReadableStream<UIMessageChunk>;
  /** The offset at which it begins. */
  begins: Promise<number>;
  /** Whether an answer was in progress at `tail`. */
  found: Promise<boolean>;
  /** Whether there was any chunk of an answer that it saw the beginning of. */
  seen: () => boolean;
  stop: Stop;
}
