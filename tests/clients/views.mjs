// The clients that front ends use, unmodified, on a view of a topic. They say what a page would show, one JSON text a line.
//
//   node views.mjs use-chat URL [MESSAGES] [MODULE]   `AbstractChat`, which is what `useChat` is around: `resume: true`
//   node views.mjs use-chat-turns MODULE ID PROMPT…   a chat whose route is what the module exports as `POST`
//   node views.mjs tanstack-turns MODULE ID PROMPT…   the same of TanStack AI
//   node views.mjs workflow-chat URL [INDEX]   the same on `WorkflowChatTransport`, which counts chunks
//   node views.mjs workflow URL INDEX        the chunks of `startIndex`, parsed as that one does
//   node views.mjs ag-ui URL [MODULE]        `HttpAgent`, which asks with GET here
//   node views.mjs tanstack URL              TanStack AI's `fetchServerSentEvents`, joining a run
//   node views.mjs tanstack-chat URL [MODULE]   its `ChatClient`, whose page was loaded while a run goes on

import { once } from "node:events";
import { createServer } from "node:http";

const say = (said) => console.log(JSON.stringify(said));

/** A chat of the AI SDK, which says what its page shows. */
async function chatOn(transport, messages = [], id = undefined) {
  const { AbstractChat } = await import("ai");
  const state = {
    status: "ready",
    error: undefined,
    messages,
    pushMessage: (message) => (state.messages = [...state.messages, message]),
    popMessage: () => (state.messages = state.messages.slice(0, -1)),
    replaceMessage: (at, message) => {
      state.messages = state.messages.map((one, index) => (index === at ? message : one));
      tell();
    },
    snapshot: structuredClone,
  };
  const texts = () => state.messages.map(({ parts }) => parts.map(({ text = "" }) => text).join(""));
  const tell = () => say({ status: state.status, texts: texts() });
  class Chat extends AbstractChat {}
  const chat = new Chat({ id, state, transport, onError: (error) => say({ error: error.message }) });
  return { chat, over: () => say({ over: chat.status, texts: texts(), error: chat.error?.message }) };
}

async function resume(transport, messages) {
  const { chat, over } = await chatOn(transport, messages);
  await chat.resumeStream();
  over();
}

/** Serve a route, as a framework would, and return where. What it hands to the agent is said. */
async function serve(module) {
  const { POST } = await import(module);
  globalThis.startAgent = async (topic, message) => say({ event: "asked", topic, message });
  const server = createServer(async (asked, answer) => {
    const gone = new AbortController();
    answer.on("close", () => gone.abort());
    const body = Buffer.concat(await asked.toArray());
    const { status, headers, body: said } = await POST(
      new Request("http://route/", { method: "POST", headers: asked.headers, body, signal: gone.signal }),
    );
    answer.writeHead(status, Object.fromEntries(headers));
    try {
      for await (const piece of said ?? []) answer.write(piece);
      answer.end();
    } catch {
      answer.destroy();
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return `http://127.0.0.1:${server.address().port}/`;
}

const clients = {
  async "use-chat"(url, messages = "[]", module = undefined) {
    const { DefaultChatTransport } = await import("ai");
    const fetch = module && (await import(module)).chatFetch;
    const prepareReconnectToStreamRequest = () => ({ api: url });
    await resume(new DefaultChatTransport({ prepareReconnectToStreamRequest, fetch }), JSON.parse(messages));
  },

  async "use-chat-turns"(module, id, ...prompts) {
    const { DefaultChatTransport } = await import("ai");
    const { chat, over } = await chatOn(new DefaultChatTransport({ api: await serve(module) }), [], id);
    for (const text of prompts) await chat.sendMessage({ text });
    over();
  },

  async "tanstack-turns"(module, threadId, ...prompts) {
    const { ChatClient, fetchServerSentEvents } = await import("@tanstack/ai-client");
    let texts = [], failed;
    const chat = new ChatClient({
      connection: fetchServerSentEvents(await serve(module), { reconnect: { delayMs: 100 } }),
      threadId,
      onMessagesChange: (messages) => {
        texts = messages.map(({ parts }) => parts.map(({ content = "" }) => content).join(""));
        say({ texts });
      },
      onError: (error) => (failed = error.message),
    });
    for (const text of prompts) await chat.sendMessage(text);
    say({ over: failed ?? "ready", texts });
  },

  async "workflow-chat"(url, index = "0") {
    const { WorkflowChatTransport } = await import("@ai-sdk/workflow/client");
    const prepareReconnectToStreamRequest = () => ({ api: url });
    await resume(new WorkflowChatTransport({ prepareReconnectToStreamRequest, initialStartIndex: Number(index) }));
  },

  async workflow(url, index) {
    const { parseJsonEventStream, uiMessageChunkSchema } = await import("ai");
    const answer = await fetch(`${url}&startIndex=${index}`);
    const chunks = [];
    if (answer.status === 200) {
      for await (const chunk of parseJsonEventStream({ stream: answer.body, schema: uiMessageChunkSchema })) {
        chunks.push(chunk.success ? chunk.value.type : `bad: ${chunk.error.message}`);
      }
    }
    say({ over: answer.status, chunks, tail: answer.headers.get("x-workflow-stream-tail-index") });
  },

  async "ag-ui"(url, module = undefined) {
    const { HttpAgent } = await import("@ag-ui/client");
    const fetch = module && (await import(module)).agentFetch;
    class Reader extends HttpAgent {
      requestInit() {
        return { method: "GET", headers: { accept: "text/event-stream" }, signal: this.abortController.signal };
      }
    }
    const agent = new Reader({ url, fetch });
    const events = [];
    let failed;
    try {
      await agent.runAgent({}, { onEvent: ({ event }) => (events.push(event.type), say({ event: event.type }), undefined) });
    } catch (error) {
      failed = error.message;
    }
    say({ over: failed ?? "resolved", events, texts: agent.messages.map(({ content }) => content) });
  },

  async tanstack(url) {
    const { fetchServerSentEvents } = await import("@tanstack/ai-client");
    const events = [];
    for await (const event of fetchServerSentEvents(url).joinRun("run")) {
      events.push(event.type);
      say({ event: event.type });
    }
    say({ over: "resolved", events });
  },

  async "tanstack-chat"(url, path = undefined) {
    const { ChatClient, fetchServerSentEvents } = await import("@tanstack/ai-client");
    const module = path && (await import(path));
    const run = fetchServerSentEvents(url, { reconnect: { delayMs: 100 } });
    // What an app's own server knows of a thread: nothing was said before, and a run goes on.
    const hydrate = async () => ({ messages: [], activeRun: { runId: "r" }, interrupts: null });
    const over = Promise.withResolvers();
    let texts = [], began = false, failed;
    const chat = new ChatClient({
      onCustomEvent: (name, value) => module?.takeBack(chat, name, value),
      connection: { ...run, hydrate },
      threadId: "t",
      persistence: true,
      onMessagesChange: (messages) => {
        texts = messages.map(({ parts }) => parts.map(({ content = "" }) => content).join(""));
        say({ texts });
      },
      onError: (error) => (failed = error.message),
      onLoadingChange: (loading) => (loading ? (began = true) : began && over.resolve()),
      onStatusChange: (status) => say({ status }),
    });
    chat.attach();
    await over.promise;
    say({ over: failed ?? "ready", texts });
  },
};

const [name, ...args] = process.argv.slice(2);
await clients[name](...args);
process.exit(0);
