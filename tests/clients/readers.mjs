// The readers of Server-Sent Events that JavaScript has, each used as its own README does. They say to `say` what they
// hand to their caller: `{event, data}`, `{open: true}`, and `{over: reason}` when they will not ask again.
//
//   node readers.mjs NAME URL      one JSON text a line
//   … --close                      closes at `end`, as a page should
//
// In a browser, a page imports `read`.

const NAMES = ["message", "tool", "heartbeat", "reset", "restart", "end"];

/** What has `EventSource`'s interface. */
function listen(source, say) {
  source.addEventListener("open", () => say({ open: true }));
  source.addEventListener("error", () => queueMicrotask(() => source.readyState === 2 && say({ over: "closed" })));
  for (const event of NAMES) source.addEventListener(event, ({ data }) => say({ event, data }));
  return () => source.close();
}

/** Load what is no module. */
const script = (src) =>
  new Promise((resolve, reject) => document.head.append(Object.assign(document.createElement("script"), { src, onload: resolve, onerror: reject })));

const readers = {
  EventSource: (url, say) => listen(new EventSource(url), say),

  async "reconnecting-eventsource"(url, say) {
    const { default: ReconnectingEventSource } = await import("reconnecting-eventsource");
    return listen(new ReconnectingEventSource(url, { max_retry_time: 200 }), say);
  },

  async "event-source-polyfill"(url, say) {
    await script("/npm/event-source-polyfill/src/eventsource.js");
    return listen(new EventSourcePolyfill(url), say);
  },

  async "react-native-sse"(url, say) {
    const { default: EventSource } = await import("react-native-sse");
    const source = new EventSource(url);
    // After a broken connection it does not come back by itself.
    source.addEventListener("error", ({ xhrStatus }) => xhrStatus || setTimeout(() => source.open(), 100));
    return listen(source, say);
  },

  async "@microsoft/fetch-event-source"(url, say) {
    const { fetchEventSource } = await import("@microsoft/fetch-event-source");
    const stopping = new AbortController();
    fetchEventSource(url, {
      signal: stopping.signal,
      openWhenHidden: true,
      onmessage: ({ event, data }) => say({ event: event || "message", data }),
      onclose() {
        throw new Error("the response ended"); // else its promise resolves, as if everything had been read
      },
      onerror: (error) => say({ failed: error.message }),
    }).then(() => say({ over: "resolved" }));
    return () => stopping.abort();
  },

  async eventsource(url, say) {
    const { EventSource } = await import("eventsource");
    return listen(new EventSource(url), say);
  },

  async "@sanity/eventsource"(url, say) {
    const { default: EventSource } = await import("@sanity/eventsource");
    return listen(new EventSource(url), say);
  },

  async "eventsource-client"(url, say) {
    const { createEventSource } = await import("eventsource-client");
    const source = createEventSource({
      url,
      onConnect: () => say({ open: true }),
      onMessage: ({ event, data }) => say({ event: event ?? "message", data }),
      onDisconnect: () => queueMicrotask(() => source.readyState === "closed" && say({ over: "closed" })),
    });
    return () => source.close();
  },
};

export async function read(name, url, say, close) {
  const stop = await readers[name](url, (said) => {
    say(said);
    if (!close || said.event !== "end") return;
    stop();
    say({ over: "stopped" });
  });
}

if (globalThis.process?.argv) {
  setInterval(() => {}, 60_000); // `eventsource` does not keep a process alive while it waits to come back
  const [name, url, close] = process.argv.slice(2);
  await read(name, url, (said) => console.log(JSON.stringify(said)), close === "--close");
}
