/**
 * Follow a topic. `on` has a function for each event name, with (data, offset): `message` is for those without one,
 * `end`, `reset` and `restart` are the stream's own. `on.refused(problem)` is asked when the service refuses for good:
 * return true to try again, for example when there is a new token. `on.connection(live)` is told when the stream comes
 * and goes. Of the options, `lastEventId` is where to go on, and `silence` the milliseconds without a byte after which a
 * connection counts as broken, over two heartbeats; the others are those of `fetch`. Returns a function that stops.
 */
export function follow(url, on, { lastEventId = "", silence = 40_000, ...options } = {}) {
  let connection, timer, retry = 3000, failures = 0, stopped = false;

  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    connection?.abort();
  };
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => connection.abort(), silence);
  };
  const tell = (name, ...what) => {
    try {
      on[name]?.(...what);
    } catch (error) {
      reportError(error); // the page's own fault: the stream goes on
    }
  };
  const event = (name, data) => {
    if (name === "end") stop();
    if (name !== "connection" && name !== "refused") tell(name, data, Number(lastEventId) - 1);
  };
  const read = async () => {
    const at = new URL(url, location.href);
    if (lastEventId) at.searchParams.set("lastEventId", lastEventId);
    connection = new AbortController();
    alive();
    const answer = await fetch(at, { ...options, signal: connection.signal });
    if (answer.status === 204) return event("end", { nextOffset: Number(lastEventId) }); // read to its end before
    if ([401, 403, 410].includes(answer.status)) {
      const problem = await answer.json().catch(() => ({ status: answer.status }));
      clearTimeout(timer);
      if (!(await on.refused?.(problem))) return stop();
    }
    if (!answer.headers.get("content-type")?.startsWith("text/event-stream")) return;
    failures = 0;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let live = false, rest = "", name = "message", data = [], id = lastEventId;
    for (;;) {
      // A stream from `latest` or the last few can be gone on with once it has said where that is.
      const placed = lastEventId || !/^(latest|-)/.test(at.searchParams.get("offset"));
      if (placed && !live) tell("connection", (live = true));
      const { done, value } = await reader.read();
      if (done) return; // without `end`: some proxies make a whole response of a broken one
      alive();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (field === "data") data.push(text);
        else if (field === "event") name = text;
        else if (field === "id") id = text;
        else if (field === "retry") retry = Number(text);
        else if (line === "") {
          lastEventId = id;
          if (data.length) event(name, JSON.parse(data.join("\n")));
          if (stopped) return;
          [name, data] = ["message", []];
        }
      }
    }
  };
  const keepReading = async () => {
    while (!stopped) {
      failures += 1; // until there is a stream
      await read().catch(() => {}); // not reached, broken or silent
      clearTimeout(timer);
      if (stopped) return;
      tell("connection", false);
      const wait = failures ? Math.min(250 * 2 ** failures, 30_000) * (1 + Math.random()) : retry;
      await new Promise((over) => setTimeout(over, wait));
    }
  };

  keepReading();
  return stop;
}
