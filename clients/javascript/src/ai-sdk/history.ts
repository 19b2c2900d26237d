/** What a chat's topic has said so far, as messages that `useChat` begins with. */

import { readUIMessageStream, type UIMessage, type UIMessageChunk } from "ai";
import { follow, type FollowOptions } from "../follow.js";
import { Refused } from "../problem.js";
import { settled } from "../settled.js";
import { from, tailOf } from "../tail.js";
import { Answer } from "./answer.js";

export interface HistoryOptions<M extends UIMessage> extends FollowOptions {
  /** Makes a message of what is in the topic besides the answers: the person's prompts, above all. */
  message?: ((name: string, data: any, offset: number) => M | undefined) | undefined;
}

export interface History<M extends UIMessage> {
  messages: M[];
  /** Whether an answer is in progress. It is not among the messages: `resumeStream` shows it from its beginning. */
  running: boolean;
}

/**
 * Read a topic up to where it ends now.
 *
 * A message that comes while an answer is in progress goes before it: a prompt and the answer have different writers,
 * and the answer's may be the faster one. Rejects with `Refused`, and with the reason of an abort.
 */
export async function history<M extends UIMessage = UIMessage>(
  url: string,
  { message, ...options }: HistoryOptions<M> = {},
): Promise<History<M>> {
  const tail = await tailOf(url, options);
  const answer = new Answer();
  const said: (M | UIMessageChunk[])[] = [];
  let chunks: UIMessageChunk[] = [];
  const read = settled<void>();
  const unfollow = follow(
    from(url, "0"),
    {
      "*": (name, data, offset) => {
        const chunk = answer.take(name, data, offset);
        if (chunk?.type === "start") said.push((chunks = []));
        if (chunk) chunks.push(chunk);
        else {
          const other = message?.(name, data, offset);
          if (other) said.splice(answer.running ? said.lastIndexOf(chunks) : said.length, 0, other);
        }
        if (offset + 1 >= tail || name === "end") read.resolve();
      },
      connection: (live, next = 0) => live && next >= tail && read.resolve(),
      refused: (problem) => read.reject(new Refused(problem)),
    },
    options,
  );
  const aborted = () => read.reject(options.signal!.reason);
  options.signal?.addEventListener("abort", aborted, { once: true });
  try {
    await read.promise;
  } finally {
    options.signal?.removeEventListener("abort", aborted);
    unfollow();
  }
  const over = said.filter((one) => one !== chunks || !answer.running);
  const messages = await Promise.all(over.map((one) => (Array.isArray(one) ? messageOf<M>(one) : one)));
  return { messages: messages.filter((one) => one !== undefined), running: answer.running };
}

async function messageOf<M extends UIMessage>(chunks: UIMessageChunk[]): Promise<M | undefined> {
  const stream = new ReadableStream<UIMessageChunk>({
    start: (controller) => {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
  let last: M | undefined;
  for await (const message of readUIMessageStream<M>({ stream })) last = message;
  return last;
}
