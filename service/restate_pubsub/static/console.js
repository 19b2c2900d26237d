// The operators' page. It reads streams with fetch, not EventSource: so it can send a token, and show why it was refused.

const $ = (id) => document.getElementById(id);
const ROWS = 1000; // older ones leave the page
const POLL = 2000;
const WINDOW = 30; // polls over which rates and lag are taken

function text(id, value) {
  if ($(id).textContent !== value) $(id).textContent = value;
}

function status(id, state, words) {
  $(id).dataset.state = state;
  text(`${id}-text`, words);
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
const polls = [];

async function poll() {
  try {
    const response = await fetch("figures", { cache: "no-store" });
    if (!response.ok) throw new Error(`${response.status}`);
    show(await response.json());
  } catch {
    status("process", "bad", "does not answer");
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
  status("process", now.ready ? "good" : "bad", now.ready ? "ready" : now.reason);
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
  $("publish-section").hidden = !now.publishEnabled;
  if ($("more").open) showTables(now);
}

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
  const topics = $("topics").tBodies[0];
  topics.replaceChildren();
  for (const topic of now.topics) {
    const row = topics.insertRow();
    const name = document.createElement("button");
    name.type = "button";
    name.textContent = topic.topic;
    name.addEventListener("click", () => {
      $("topic").value = topic.topic;
      $("follow").requestSubmit();
    });
    cell(row, name);
    for (const value of [topic.streams, topic.head, topic.closed ? `${topic.tail}, closed` : topic.tail, topic.behind]) cell(row, value);
    cell(row, bytes(topic.bytes));
  }
  const all = $("all").tBodies[0];
  all.replaceChildren();
  for (const [name, value] of Object.entries(now.figures)) {
    const row = all.insertRow();
    cell(row, name);
    cell(row, number.format(value));
  }
}
$("more").addEventListener("toggle", () => polls.length && show(polls.pop()));

// --- a stream -------------------------------------------------------------------------------------------------

const address = (topic) => `..${streamsPath}/${topic.split("/").map(encodeURIComponent).join("/")}`;
const headers = () => ($("token").value ? { authorization: `Bearer ${$("token").value}` } : {});
let following = null; // the AbortController of the stream that is shown
let taken = 0;

/** Yield what a stream says, as the standard parses it (WHATWG HTML, 9.2.6): events, and comments as such. */
async function* parsed(body) {
  let [id, rest, fields] = ["", "", { event: "", data: [] }];
  for await (const piece of pieces(body)) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [, name, value] = /^([^:]*):? ?(.*?)\r?$/s.exec(line);
      if (line === "" || line === "\r") {
        if (fields.data.length) yield { id, event: fields.event || "message", data: fields.data.join("\n") };
        fields = { event: "", data: [] };
      } else if (name === "data") fields.data.push(value);
      else if (name === "event") fields.event = value;
      else if (name === "id") id = value;
      else if (name === "retry") yield { retry: Number(value) };
      else if (name === "") yield { comment: value };
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
  arrivals.length = 0;
  text("count", "");
  $("rows").replaceChildren();
  $("stop").disabled = false;
  location.hash = new URLSearchParams({ topic, offset });
  let last = null; // the id of the last event: where to go on
  let wait = 2000;
  while (!mine.signal.aborted) {
    status("stream", "waiting", last === null ? "Connecting" : "Reconnecting");
    try {
      if (streamsPath === null) throw new Error("the process has not answered yet");
      const query = last === null ? `offset=${encodeURIComponent(offset)}` : "";
      const given = last === null ? headers() : { ...headers(), "last-event-id": last };
      const response = await fetch(`${address(topic)}?${query}`, { headers: given, signal: mine.signal, cache: "no-store" });
      if (response.status === 204) return finish(mine, "idle", "The topic is closed, and everything was read");
      if (!response.ok) {
        const problem = await response.json().catch(() => ({}));
        if (response.status < 500 && response.status !== 429) {
          return finish(mine, "bad", `Refused (${response.status}): ${problem.detail ?? response.statusText}`);
        }
        throw new Error(problem.detail);
      }
      status("stream", "good", "Live");
      for await (const event of parsed(response.body)) {
        if (mine.signal.aborted) return;
        if (event.retry) wait = event.retry;
        if (event.data === undefined) continue;
        last = event.id;
        add(event);
        if (event.event === "end") return finish(mine, "idle", "The topic is closed, and everything was read");
      }
    } catch {
      // cut off, or not reached: again
    }
    if (!mine.signal.aborted) {
      status("stream", "waiting", "Reconnecting");
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

// Events may come by thousands: they become rows once a frame, and only those that will stay.
let arrivals = [];
function add(event) {
  if (!arrivals.length) requestAnimationFrame(draw);
  event.at = new Date().toISOString().slice(11, 23);
  arrivals.push(event);
}

function draw() {
  taken += arrivals.length;
  for (const { id, event, data, at } of arrivals.slice(-ROWS)) {
    const row = $("rows").insertRow();
    row.className = ["reset", "end", "restart"].includes(event) ? event : "";
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = event;
    cell(row, id);
    cell(row, event === "message" ? "" : name);
    cell(row, data);
    cell(row, number.format(new TextEncoder().encode(data).length), "number");
    cell(row, at);
  }
  arrivals = [];
  while ($("rows").rows.length > ROWS) $("rows").deleteRow(0);
  text("count", `${number.format(taken)} ${taken === 1 ? "event" : "events"}`);
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
