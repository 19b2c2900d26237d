// The operators' page. It reads streams with fetch, not EventSource: so it can send a token, and show why it was refused.

import { TalkBack } from "./talk.js";

const $ = (id) => document.getElementById(id);
const ROWS = 1000; // older ones leave the page
const LONG = 4096; // characters of one message that are shown
const POLL = 2000;
const ANSWER = 10_000; // ms that the process has to answer in
const WINDOW = 30; // polls over which rates and lag are taken

function text(id, value) {
  if ($(id).textContent !== value) $(id).textContent = value;
}

let isReady = null; // whether the process is; null: it has not said yet
let wanted = ["idle", "Not following"]; // what the stream's connection said last

/** A connection that is open is not live where nothing can come over it. */
function status(id, state, words) {
  if (id === "stream") {
    wanted = [state, words];
    if (state === "good" && isReady === false) [state, words] = ["waiting", "Connected, but nothing new can come: see above"];
  }
  $(id).dataset.state = state;
  text(`${id}-text`, words);
}

function process(ready, words, reason = "") {
  isReady = ready;
  status("process", ready ? "good" : "bad", words);
  text("reason", reason);
  $("reason").hidden = !reason;
  status("stream", ...wanted);
}

function cell(row, value, className = "") {
  const made = row.insertCell();
  made.className = className;
  if (value instanceof Node) made.append(value);
  else made.textContent = value;
}

// --- figures --------------------------------------------------------------------------------------------------

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const bytes = (size) => {
  const unit = ["B", "KiB", "MiB", "GiB"];
  let at = 0;
  for (; size >= 1024 && at < 3; at += 1) size /= 1024;
  return `${number.format(size)} ${unit[at]}`;
};
const seconds = (value) => (value === null ? "–" : value < 1 ? `${number.format(value * 1000)} ms` : `${number.format(value)} s`);

let streamsPath = null;
let silence = 60_000; // ms without a byte after which a stream is dead: heartbeats come more often
const polls = [];

async function poll() {
  try {
    const response = await fetch("figures", { cache: "no-store", signal: AbortSignal.timeout(ANSWER) });
    if (!response.ok) throw new Error(`${response.status}`);
    show(await response.json());
  } catch {
    process(false, "does not answer");
  }
  setTimeout(poll, POLL);
}

function show(now) {
  now.at = performance.now() / 1000;
  if (polls.at(-1)?.replica !== now.replica) polls.length = 0; // another process: its counters began anew
  polls.push(now);
  if (polls.length > WINDOW) polls.shift();
  const [first, figures] = [polls[0], now.figures];
  const rate = (name) => {
    const time = now.at - first.at;
    return time ? `${number.format((figures[name] - first.figures[name]) / time)}/s` : "0/s";
  };
  streamsPath = now.streamsPath;
  silence = 1000 * (2.5 * now.heartbeatSeconds + 1);
  process(now.ready, now.ready ? "ready" : `not ready: ${now.code}`, now.ready ? "" : now.reason);
  text("replica", now.replica);
  text("version", now.version);
  text("streams", number.format(figures.streams));
  text("topic-count", number.format(figures.topics));
  text("delivered", rate("messages_delivered_total"));
  first.figures.arrived ??= arrived(first.figures);
  figures.arrived = arrived(figures);
  text("arrived", rate("arrived"));
  text("lag-50", seconds(quantile(0.5, first, now)));
  text("lag-99", seconds(quantile(0.99, first, now)));
  text("memory", bytes(figures.ring_bytes));
  text("resets", number.format(figures.resets_total));
  text("refused", number.format(sum(figures, "refused_total.")));
  text("failing", number.format(figures["pulls_total.unavailable"] + figures["pulls_total.error"]));
  text("slow", number.format(figures.slow_readers_total));
  text("blocked-count", figures.admin_reachable ? number.format(figures.blocked_topics) : "unknown");
  $("blocked-count").title = figures.admin_reachable ? "" : "Restate's admin API is out of reach: set RESTATE_ADMIN_URL";
  $("blocked-count").classList.toggle("bad", figures.blocked_topics > 0);
  $("blocked").hidden = !now.blocked.length;
  const blocked = now.blocked.map(({ topic, invocation, handler, status }) => [topic, [invocation, handler, status]]);
  fill($("blocked").querySelector("tbody"), blocked, (topic) => topic);
  $("publish-section").hidden = !now.publishEnabled;
  if ($("more").open) showTables(now);
}

const sum = (figures, prefix) =>
  Object.entries(figures).reduce((all, [name, value]) => (name.startsWith(prefix) ? all + value : all), 0);
const arrived = (figures) => figures["messages_arrived_total.local"] + figures["messages_arrived_total.pull"];

/** A quantile of the lag between two polls, from the histogram's bounds; of all deliveries if there were none since. */
function quantile(part, first, now) {
  const { le, count } = now.deliveryLag;
  let counts = count.map((value, at) => value - first.deliveryLag.count[at]);
  if (!counts.at(-1)) counts = count;
  const wanted = counts.at(-1) * part;
  if (!wanted) return null;
  const at = counts.findIndex((value) => value >= wanted);
  if (le[at] === null) return le[at - 1];
  const [low, below] = at ? [le[at - 1], counts[at - 1]] : [0, 0];
  return low + ((le[at] - low) * (wanted - below)) / (counts[at] - below);
}

function showTables(now) {
  const topics = now.topics.map(({ topic, streams, head, tail, closed, behind, bytes: size }) => [
    topic,
    [streams, head, closed ? `${tail}, closed` : tail, behind, bytes(size)],
  ]);
  fill($("topics").tBodies[0], topics, (topic) => {
    const name = document.createElement("button");
    name.type = "button";
    name.textContent = topic;
    name.addEventListener("click", () => {
      $("topic").value = topic;
      $("follow").requestSubmit();
    });
    return name;
  });
  fill($("all").tBodies[0], Object.entries(now.figures).map(([name, value]) => [name, [number.format(value)]]), (name) => name);
}

/** Show `[name, values]` as rows. Those that stay are kept, and with them the focus and what is selected. */
function fill(body, entries, head) {
  const before = new Map([...body.rows].map((row) => [row.dataset.name, row]));
  entries.forEach(([name, values], at) => {
    let row = before.get(name);
    before.delete(name);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.name = name;
      cell(row, head(name));
      for (const _ of values) cell(row, "");
    }
    values.forEach((value, place) => {
      const shown = row.cells[place + 1];
      if (shown.textContent !== `${value}`) shown.textContent = value;
    });
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null);
  });
  for (const row of before.values()) row.remove();
}
$("more").addEventListener("toggle", () => polls.length && show(polls.pop()));

// --- a stream -------------------------------------------------------------------------------------------------

/** The address of a topic; where a part of its name is `.` or `..`, its slashes are escaped, or the browser takes the part away. */
function address(topic) {
  const dots = topic.split("/").some((part) => part === "." || part === "..");
  const name = encodeURIComponent(topic);
  return `..${streamsPath}/${dots ? name : name.replaceAll("%2F", "/")}`;
}
const headers = () => ($("token").value ? { authorization: `Bearer ${$("token").value}` } : {});
let following = null; // the AbortController of the stream that is shown
let taken = 0;
let talk = new TalkBack();

/** Yield what a stream says, as the standard parses it (WHATWG HTML, 9.2.6): events, ids without one, and `retry`. */
async function* parsed(body, alive) {
  let [id, rest, fields] = ["", "", { event: "", data: [] }];
  for await (const piece of pieces(body)) {
    alive();
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [, name, value] = /^([^:]*):? ?(.*?)\r?$/s.exec(line);
      if (line === "" || line === "\r") {
        if (fields.data.length) yield { id, event: fields.event || "message", data: fields.data.join("\n") };
        else if (id) yield { id }; // `latest` begins with one: where to go on if the first message never comes
        fields = { event: "", data: [] };
      } else if (name === "data") fields.data.push(value);
      else if (name === "event") fields.event = value;
      else if (name === "id") id = value;
      else if (name === "retry") yield { retry: Number(value) };
    }
  }
}

async function* pieces(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

async function follow(topic, offset) {
  following?.abort();
  const mine = (following = new AbortController());
  taken = 0;
  talk = new TalkBack();
  arrivals.length = 0;
  text("count", "");
  text("asked", "");
  $("rows").replaceChildren();
  text("empty", `Nothing yet. Write to it: restate-pubsub publish ${topic} '{"text": "hello"}'`);
  $("empty").hidden = false;
  $("stop").disabled = false;
  location.hash = new URLSearchParams({ topic, offset });
  let last = null; // the last id: where to go on
  let place = /^\d+$/.test(offset) ? Number(offset) : null; // the last id, or what stands for one before the first
  let wait = 2000;
  let why = "";
  for (let attempt = 0; !mine.signal.aborted; attempt += 1) {
    status("stream", "waiting", attempt ? `Reconnecting${why}` : "Connecting");
    const quiet = new AbortController(); // a connection that died without a word
    let watch = null;
    const alive = () => {
      clearTimeout(watch);
      watch = setTimeout(() => quiet.abort(new Error("it fell silent")), silence);
    };
    try {
      if (streamsPath === null) throw new Error("the process has not answered yet");
      const query = last === null ? `offset=${encodeURIComponent(offset)}` : "";
      const given = last === null ? headers() : { ...headers(), "last-event-id": last };
      const signal = AbortSignal.any([mine.signal, quiet.signal]);
      alive();
      const response = await fetch(`${address(topic)}?${query}`, { headers: given, signal, cache: "no-store" });
      if (response.status === 204) return finish(mine, "idle", "The topic is closed, and everything was read");
      if (!response.ok) {
        const problem = await response.json().catch(() => ({}));
        if (response.status < 500 && response.status !== 429) {
          return finish(mine, "bad", `Refused (${response.status}): ${problem.detail ?? response.statusText}`);
        }
        throw new Error(problem.detail ?? `${response.status} ${response.statusText}`);
      }
      // Until the stream has said where `latest` or the last K is, a cut would lose what is published meanwhile.
      const live = () => status("stream", "good", "Live");
      if (last === null && /^(latest|-)/.test(offset)) status("stream", "waiting", `Waiting to hear where ${offset} is`);
      else live();
      why = "";
      for await (const event of parsed(response.body, alive)) {
        if (mine.signal.aborted) return;
        if (event.retry) wait = event.retry;
        if (event.id) {
          if (last === null) live();
          last = event.id;
        }
        const covered = place; // ids up to here were covered before
        if (event.id) place = Number(event.id);
        if (event.data === undefined) continue;
        add(event, covered);
        if (event.event === "end") return finish(mine, "idle", "The topic is closed, and everything was read");
      }
      why = ": the response ended"; // without `end`: a proxy makes a whole response of a broken one
    } catch (error) {
      why = error instanceof TypeError ? "" : `: ${error.message}`; // a TypeError is the browser's own "failed to fetch"
    } finally {
      clearTimeout(watch);
    }
    if (!mine.signal.aborted) {
      status("stream", "waiting", `Reconnecting${why}`);
      await new Promise((done) => setTimeout(done, wait));
    }
  }
}

function finish(mine, state, words) {
  if (mine.signal.aborted) return;
  mine.abort();
  status("stream", state, words);
  $("stop").disabled = true;
}

const STAND_OUT = ["reset", "end", "restart", "stop", "question", "answer"];

// Events may come by thousands: they become rows once a frame, and only those that will stay. A tab in the background
// has no frames.
let arrivals = [];
function add(event, covered) {
  if (!arrivals.length) requestAnimationFrame(draw);
  taken += 1;
  event.places = places(event, covered);
  event.note = talk.take(event);
  event.at = new Date().toISOString().slice(11, 23);
  arrivals.push(event);
  if (arrivals.length >= 2 * ROWS) arrivals = arrivals.slice(-ROWS);
}

/** The ids that an event stands for: more than its own, if it is joined, or if abandoned attempts were left out before it. */
function places({ id, event }, covered) {
  return event === "reset" || covered === null || covered + 1 >= Number(id) ? id : `${covered + 1}–${id}`;
}

function draw() {
  for (const { places, event, data, at, note } of arrivals.slice(-ROWS)) {
    const row = $("rows").insertRow();
    row.className = STAND_OUT.includes(event) ? event : "";
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = event;
    cell(row, places);
    cell(row, event === "message" ? "" : name);
    if (note) row.cells[1].append(" ", note.show());
    cell(row, data.length > LONG ? `${data.slice(0, LONG)}…` : data);
    cell(row, number.format(new TextEncoder().encode(data).length), "number");
    cell(row, at);
  }
  arrivals = [];
  while ($("rows").rows.length > ROWS) $("rows").deleteRow(0);
  $("empty").hidden = true;
  text("count", `${number.format(taken)} ${taken === 1 ? "event" : "events"}`);
  const { open } = talk;
  text("asked", open ? `${open} open ${open === 1 ? "question" : "questions"}` : "");
  toEnd();
}

// The newest event stays in sight until somebody scrolls up.
let pinned = true;
const box = $("events");
const toEnd = () => pinned && (box.scrollTop = box.scrollHeight);
box.addEventListener("scroll", () => (pinned = box.scrollHeight - box.clientHeight - box.scrollTop < 24));
new ResizeObserver(toEnd).observe(box);

$("follow").addEventListener("submit", (event) => {
  event.preventDefault();
  follow($("topic").value, $("offset").value.trim() || "0");
});
$("stop").addEventListener("click", () => finish(following, "idle", "Stopped"));

// --- publishing -----------------------------------------------------------------------------------------------

function said(words, bad = false) {
  text("published", words);
  $("published").classList.toggle("bad", bad);
}

$("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  const topic = $("topic").value;
  if (!topic) return said("Name a topic above", true);
  try {
    const response = await fetch(address(topic), {
      method: "POST",
      headers: { ...headers(), "content-type": "application/json" },
      body: $("message").value,
    });
    const answer = await response.json();
    if (response.ok) said(`Published to ${topic} at offset ${answer.offset}`);
    else said(`Refused (${response.status}): ${answer.detail}`, true);
  } catch {
    said("The service does not answer: it may or may not have been published", true);
  }
});

// --- start: a link may name a topic ---------------------------------------------------------------------------

await poll();
const linked = new URLSearchParams(location.hash.slice(1));
if (linked.get("topic")) {
  $("topic").value = linked.get("topic");
  $("offset").value = linked.get("offset") ?? "0";
  $("follow").requestSubmit();
}
