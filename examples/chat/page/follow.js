/**
 * Follow a topic. `on` has a function for each event name, with (data, offset): `message` is for those without one,
 * `end`, `reset` and `restart` are the stream's own. `on.refused(problem)` is asked when the service refuses for good:
 * return true to try again, for example when there is a new cookie. `on.connection(live)` is told when the stream comes
 * and goes. Returns a function that stops.
 */
export function follow(url, on, lastEventId = "") {
  let source, timer, failures = 0, stopped = false;

  const stop = () => {
    stopped = true;
    clearTimeout(timer);
    source?.close();
  };
  const address = () => {
    const at = new URL(url, location.href);
    if (lastEventId) at.searchParams.set("lastEventId", lastEventId);
    return at;
  };
  const open = () => {
    source = new EventSource(address(), { withCredentials: true });
    source.onopen = () => {
      failures = 0;
      on.connection?.(true);
    };
    for (const name of new Set(["message", "end", "reset", "restart", ...Object.keys(on)])) {
      if (name === "refused" || name === "connection") continue;
      source.addEventListener(name, (event) => {
        lastEventId = event.lastEventId;
        if (name === "end") stop();
        on[name]?.(JSON.parse(event.data), Number(event.lastEventId) - 1);
      });
    }
    source.onerror = () => {
      if (stopped) return;
      on.connection?.(false);
      if (source.readyState === EventSource.CLOSED) lost();
    };
  };
  const lost = async () => {
    // EventSource does not say why it gave up; the same request does.
    const asking = new AbortController();
    const late = setTimeout(() => asking.abort(), 10_000);
    const answer = await fetch(address(), { credentials: "include", signal: asking.signal }).catch(() => null);
    clearTimeout(late);
    if (stopped) return;
    if (answer?.status === 204) { // everything was read before, and the topic has ended
      stop();
      return on.end?.({ nextOffset: Number(lastEventId) }, Number(lastEventId) - 1);
    }
    const problem = [401, 403, 410].includes(answer?.status) ? await answer.json().catch(() => ({ status: answer.status })) : null;
    asking.abort();
    if (problem && !(await on.refused?.(problem))) return stop();
    if (!stopped) timer = setTimeout(open, Math.min(500 * 2 ** failures++, 30_000) * (1 + Math.random()));
  };

  open();
  return stop;
}
