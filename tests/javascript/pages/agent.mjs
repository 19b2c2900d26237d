// An AG-UI client with `TopicAgent`, unmodified. It does what the lines of its input say, and says what it shows, one JSON
// text a line.
//
//   node agent.mjs TOPICS [STREAM]   TOPICS is the URL of all threads' topics, STREAM the token stream that an abort stops

import { createInterface } from "node:readline";
import { TopicAgent } from "restate-pubsub/ag-ui";

const [topics, stream] = process.argv.slice(2);
const say = (said) => console.log(JSON.stringify(said));

const agent = new TopicAgent({
  threadId: "thread",
  topic: () => topics,
  send: async ({ messages }) => {
    say({ sent: messages.at(-1).content });
    if (messages.at(-1).content === "refuse") return new Response('{"detail":"soon"}', { status: 400 });
  },
  ...(stream && { stop: () => ({ id: stream, reason: "enough" }) }),
});
const events = [];
const shown = (messages) => messages.map(({ role, content, toolCalls }) => [role, content ?? "", ...(toolCalls ?? []).map((call) => call.function.arguments)]);
agent.subscribe({
  onEvent: ({ event }) => void events.push(event.type),
  onMessagesChanged: ({ messages }) => say({ shows: shown(messages) }),
});

const does = {
  run(text) {
    agent.addMessage({ id: crypto.randomUUID(), role: "user", content: text });
    return agent.runAgent();
  },
  connect: () => agent.clone().connectAgent({}, { onMessagesChanged: ({ messages }) => say({ shows: shown(messages) }) }),
  abort: () => agent.abortRun(),
};
for await (const line of createInterface({ input: process.stdin })) {
  const [what, argument] = JSON.parse(line);
  Promise.resolve(does[what](argument)).then(
    () => say({ over: what, events: events.splice(0) }),
    (error) => say({ over: what, failed: error.problem?.detail ?? error.message }),
  );
}
