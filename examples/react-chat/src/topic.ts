/** The chat's topic: where it is, how a prompt gets to the agent, and what was said so far. */

import type { UIMessage } from "ai";
import { history, TopicChatTransport } from "restate-pubsub/ai-sdk";

export const topicOf = (chat: string) => `/pubsub/${encodeURIComponent(`chat/${chat}`)}`;

export const transport = new TopicChatTransport({
  topic: topicOf,
  // The turn's name is what the agent's run is called, and so is its answer. A prompt that is sent again keeps it: the
  // agent runs once.
  send: ({ chatId, messages }) => {
    const asked = messages.at(-1)!;
    const turn = asked.id.replace(/-prompt$/, "");
    const body = JSON.stringify({ chat: chatId, turn, prompt: textOf(asked) });
    return fetch("/prompt", { method: "POST", headers: { "content-type": "application/json" }, body });
  },
});

/** A message of the person, as `useChat` keeps it, with a new name or that of its turn. */
export const asked = (text: string, turn: string = crypto.randomUUID()): UIMessage => ({
  id: `${turn}-prompt`, // never the turn's name itself: that is the answer's
  role: "user",
  parts: [{ type: "text", text }],
});

/** What the topic says already. The agent writes each prompt into it, as `{"turn", "role": "user", "content"}`. */
export const saidSoFar = (chat: string) =>
  history(topicOf(chat), { message: (_, data) => (data?.role === "user" ? asked(data.content, data.turn) : undefined) });

export const textOf = ({ parts }: UIMessage) => parts.map((part) => (part.type === "text" ? part.text : "")).join("");
