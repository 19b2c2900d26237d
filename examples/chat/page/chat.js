// The page: it sends prompts, and shows what the topic says. All it knows comes from the topic, so a reload, a second
// tab and a reconnect all show the same.

import { follow, Refused, stop } from "/client/restate-pubsub.js"; // the service serves it
import { Question } from "./question.js";
import { show } from "./text.js";

const $ = (id) => document.getElementById(id);
const chat = location.pathname.split("/").at(-1);
const topic = `chat/${chat}`;
const url = `/pubsub/${topic}`;
let next = null; // the offset to go on at
let pinned = true; // to the end of the page

// --- one turn: the prompt, the tools, the answer --------------------------------------------------------------

const turns = new Map();
const questions = new Map();

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

class Turn {
  constructor(id) {
    this.id = id;
    this.root = element("article", "turn busy");
    this.root.dataset.turn = id;
    this.user = element("div", "user");
    this.state = element("div", "state");
    this.tools = element("div", "tools");
    this.answer = element("div", "answer");
    const waiting = element("div", "waiting");
    waiting.append(element("i", ""), element("i", ""), element("i", ""));
    // Who speaks is seen by the look, and heard by headings.
    this.speaker = element("h2", "unseen", "Answer");
    this.speaker.hidden = true;
    this.root.append(element("h2", "unseen", "You"), this.user, this.state, this.tools, this.speaker, this.answer, waiting);
    this.steps = new Map(); // what each has written; a step is one call of a model, and tried again by itself
    this.cards = new Map(); // tools, by the id of their call
    this.unsaid = "";
    this.attempts = 1;
    this.done = false;
    $("log").append(this.root);
    $("welcome").hidden = true;
  }

  ask(text) {
    this.user.textContent = text;
    this.user.classList.remove("sending");
    this.say("");
    speak(`Prompt: ${text}`);
  }

  say(text, bad = false) {
    if (this.state.textContent !== text) speak(text);
    this.state.textContent = text;
    this.state.classList.toggle("bad", bad);
  }

  get text() {
    return [...this.steps.values()].filter(Boolean).join("\n\n");
  }

  call(name, given, id, step) {
    const card = element("details", "tool");
    if (step) this.write("", step);
    const summary = element("summary", "");
    summary.append(icon("M5 7.5 9.5 12 5 16.5M12.5 16.5H19"));
    summary.append(element("span", "name", name.replaceAll("_", " ")));
    summary.append(element("span", "brief", Object.values(given).join(", ")));
    const outcome = element("span", "outcome", this.asked?.isOpen ? "asks first" : "running");
    summary.append(outcome);
    const details = element("dl", "");
    detail(details, "Called with", given);
    card.append(summary, details);
    this.tools.append(card);
    this.cards.set(id, { card, outcome, details, step });
  }

  result(value, id) {
    const { card, outcome, details } = this.cards.get(id) ?? {};
    if (!card) return;
    card.classList.add("returned");
    outcome.textContent = outcomeOf(value);
    speak(`A tool returned ${outcome.textContent}.`);
    detail(details, "Returned", value);
  }

  write(text, step) {
    if (text && this.stopped && !this.stoppedByName) this.goOn();
    if (text) this.speaker.hidden = false;
    this.steps.set(step, (this.steps.get(step) ?? "") + text);
    this.unsaid += text;
    // A page that is behind gets many words as one: they are still read aloud a sentence at a time.
    for (let sentence; (sentence = /^.*?[.!?]\**(?=\s|$)/s.exec(this.unsaid)?.[0]); ) {
      speak(sentence);
      this.unsaid = this.unsaid.slice(sentence.length);
    }
    draw(this);
  }

  /** The step is tried again: strike out what it wrote, if somebody has seen it, and make room for the new words. */
  restart(step) {
    this.attempts += 1;
    const text = this.steps.get(step);
    if (current && text) {
      const gone = element("del", "gone");
      gone.setAttribute("aria-hidden", "true");
      const words = element("div", "");
      show(words, text);
      gone.append(words);
      gone.addEventListener("animationend", () => gone.remove());
      this.answer.before(gone);
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) gone.remove();
    }
    this.steps.set(step, "");
    for (const [id, tool] of this.cards) {
      if (!step || tool.step !== step) continue;
      tool.card.remove();
      this.cards.delete(id);
    }
    this.unsaid = "";
    speak("The step failed. The answer begins again.");
    this.badge ??= element("div", "retried");
    this.badge.textContent = `Attempt ${this.attempts} · the step was tried again`;
    this.answer.before(this.badge);
    draw(this);
  }

  question(id, question) {
    questions.set(id, new Question(id, question, { url, place: this.tools, speak, back: $("prompt") }));
    this.asked = questions.get(id);
    this.mark("running", "asks first");
    draw(this);
  }

  answered({ answer }) {
    if (answer?.yes === true) this.mark("asks first", "running");
    draw(this);
  }

  /** Say of the newest tool what it does now. */
  mark(before, now) {
    const outcome = [...this.cards.values()].at(-1)?.outcome;
    if (outcome?.textContent === before) outcome.textContent = now;
  }

  /** What was said stays, and no more comes. */
  stop(byName) {
    this.stoppedByName ||= byName;
    this.stopped ??= element("div", "stopped", "Stopped");
    this.answer.after(this.stopped);
    this.finish();
    speak("The answer was stopped.");
  }

  /** A stop of all that was unfinished was not about this turn: it was between two steps. */
  goOn() {
    this.stopped.remove();
    this.stopped = undefined;
    this.done = false;
  }

  finish() {
    this.done = true;
    draw(this);
    speak(this.unsaid);
    this.unsaid = "";
  }
}

function outcomeOf(value) {
  if (typeof value !== "object") return String(value);
  if (value?.sent === undefined) return "done";
  return value.sent ? "sent" : "not sent";
}

function detail(details, name, value) {
  const shown = element("dd", "");
  shown.append(element("pre", "", JSON.stringify(value)));
  details.append(element("dt", "", name), shown);
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(svg.namespaceURI, "path"));
  svg.firstChild.setAttribute("d", path);
  return svg;
}

function turnOf(id) {
  if (!turns.has(id)) turns.set(id, new Turn(id));
  return turns.get(id);
}

/** A step is the turn itself, or one of its steps: the agents of frameworks have several in a turn. */
function turnOfStep(id) {
  return [...turns.values()].find((turn) => turn.steps.has(id)) ?? turnOf(id);
}

// Words may come faster than frames: draw each answer once a frame.
const changed = new Set();
let frame = 0;
function draw(turn) {
  if (turn) changed.add(turn);
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    for (const turn of changed) {
      show(turn.answer, turn.text);
      turn.root.classList.toggle("busy", !turn.done);
      turn.root.classList.toggle("asks", Boolean(turn.asked?.isOpen));
    }
    changed.clear();
    showStop();
    $("offset").textContent = next ?? 0;
    if (pinned) toEnd();
  });
}

// A reload brings the history at once, and then what comes from now on; who can only listen gets whole sentences of that.
const QUIET = 300; // ms after the first event: by then the history is there
let current = false;
let waiting = null;
function currentIn(time) {
  clearTimeout(waiting);
  waiting = setTimeout(() => (current = true), time);
}

function speak(text) {
  if (!current || !text.trim()) return;
  $("spoken").append(element("p", "", text.replace(/[*`]|^\s*- /gm, "")));
  while ($("spoken").children.length > 20) $("spoken").firstChild.remove();
}

// --- the topic ------------------------------------------------------------------------------------------------

const handlers = {
  message(said) {
    const turn = turnOf(said.turn);
    if (said.role === "user") turn.ask(said.content);
    else if (said.call) turn.call(said.call, said.arguments, said.id, said.step);
    else if (said.role === "tool") turn.result(said.error ?? said.result, said.id);
  },
  token: (said) => turnOf(said.turn).write(said.text, said.step ?? said.turn),
  restart: (said) => turnOfStep(said.id).restart(said.id),
  question: (said) => turnOf(said.question.turn).question(said.id, said.question),
  answer(said) {
    questions.get(said.id)?.end(said);
    for (const turn of turns.values()) if (turn.asked?.id === said.id) turn.answered(said);
  },
  stop(said) {
    if (said.id) return turnOfStep(said.id).stop(true);
    // All that were unfinished, from a command line, say. A turn that waits for a person has no stream open.
    for (const turn of unfinished()) if (!turn.asked?.isOpen) turn.stop(false);
  },
  done: (said) => turnOf(said.turn).finish(),
  failed(said) {
    const turn = turnOf(said.turn);
    turn.finish();
    if (!turn.stopped) turn.say(`There is no answer: ${said.error}`, true);
  },
  reset() {
    // What we asked for is gone, and so may be the beginning of what is shown.
    turns.clear();
    questions.clear();
    $("log").replaceChildren(element("p", "note", "The beginning of this conversation is not kept any more."));
  },
  end: () => over("Conversation ended"),
};

function connect() {
  const on = {};
  for (const [name, handle] of Object.entries(handlers)) {
    on[name] = (said, at) => {
      if (next === null) currentIn(QUIET);
      next = at + 1;
      handle(said);
      draw();
    };
  }
  follow(url, {
    ...on,
    connection(live) {
      if (!live) return connection("reconnecting", "Reconnecting");
      connection("live", "Live");
      if (next !== null) return;
      currentIn(4 * QUIET); // a stream may be open before Restate has said what is in it
      setTimeout(() => ($("welcome").hidden = turns.size > 0 || next !== null), QUIET);
    },
    refused(problem) {
      const why = `Refused: ${problem.detail ?? problem.status}`;
      over(why);
      const note = element("p", "note bad", `This conversation cannot be shown. ${why}`);
      note.setAttribute("role", "alert");
      $("log").append(note);
      $("welcome").hidden = true;
    },
  });
}

function connection(state, text) {
  $("connection").dataset.state = state;
  if ($("connection-text").textContent !== text) $("connection-text").textContent = text;
}

/** Nothing will follow. */
function over(words) {
  connection("ended", words);
  for (const turn of turns.values()) if (!turn.done) turn.finish();
  for (const question of questions.values()) if (question.isOpen) question.close();
  for (const control of document.querySelectorAll("#prompt, #send, .idea")) control.disabled = true;
}

// --- sending --------------------------------------------------------------------------------------------------

const SECONDS_TO_TRY = 120;
const ANSWER = 15_000; // ms for one try

async function send(text) {
  const id = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  current = true;
  const turn = turnOf(id);
  draw(turn);
  turn.user.textContent = text;
  turn.user.classList.add("sending");
  toEnd();
  const body = JSON.stringify({ chat, turn: id, prompt: text });
  // The turn's name is the idempotency key: sent twice, it is answered once.
  for (let tried = 0, until = Date.now() + SECONDS_TO_TRY * 1000; Date.now() < until; tried += 1) {
    try {
      const headers = { "content-type": "application/json" };
      const response = await fetch("/prompt", { method: "POST", headers, body, signal: AbortSignal.timeout(ANSWER) });
      if (response.ok) return;
      if (response.status < 500) break;
    } catch {
      // not reached: as a 503
    }
    turn.say("Not sent yet, trying again");
    await new Promise((done) => setTimeout(done, Math.min(500 * 2 ** tried, 4000)));
  }
  turn.finish();
  turn.say("Not sent", true);
}

function submit() {
  const text = $("prompt").value.trim();
  if (!text || $("prompt").disabled) return;
  $("prompt").value = "";
  sized();
  send(text);
}

function sized() {
  $("send").disabled = !$("prompt").value.trim();
  if (CSS.supports("field-sizing", "content")) return;
  $("prompt").style.height = "auto";
  $("prompt").style.height = `${$("prompt").scrollHeight}px`;
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("prompt").addEventListener("input", sized);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
for (const idea of document.querySelectorAll(".idea")) {
  idea.addEventListener("click", () => {
    send(idea.textContent);
    $("prompt").focus();
  });
}

// --- stopping -------------------------------------------------------------------------------------------------

const unfinished = () => [...turns.values()].filter((turn) => !turn.done);

function showStop() {
  const hidden = !unfinished().length;
  if (hidden && document.activeElement === $("stop")) $("prompt").focus();
  $("stop").hidden = hidden;
  $("stop").ariaDisabled = String(!hidden && unfinished().every((turn) => turn.stopping));
}

/** A turn is stopped when the topic says so. Its open question is answered after that, so that nobody waits for it. */
async function stopTurn(turn) {
  if (turn.stopping) return;
  turn.stopping = true;
  draw();
  turn.say("Stopping");
  try {
    await stop(url, { id: [...turn.steps.keys()].at(-1) ?? turn.id, reason: "the reader pressed stop" });
    turn.say("");
    if (turn.asked?.isOpen) await turn.asked.say(false);
  } catch (error) {
    turn.say(`Not stopped: ${error instanceof Refused ? error.message : "the service cannot be reached"}`, true);
  }
  turn.stopping = false;
  draw();
}

function stopAll() {
  for (const turn of unfinished()) stopTurn(turn);
}
$("stop").addEventListener("click", stopAll);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && !$("stop").hidden) stopAll();
});

// --- scrolling and colours ------------------------------------------------------------------------------------

const page = document.documentElement;
const toEnd = () => page.scrollTo({ top: page.scrollHeight });
$("jump").addEventListener("click", toEnd);

/** Follow the words, until the reader scrolls up; at the end again, follow again. */
let top = 0;
function scrolled() {
  if (page.scrollHeight - page.clientHeight - page.scrollTop < 48) pinned = true;
  else if (page.scrollTop < top) pinned = false; // words that push the end away do not scroll
  top = page.scrollTop;
  $("jump").hidden = pinned;
}
addEventListener("scroll", scrolled, { passive: true });
addEventListener("resize", () => pinned && toEnd());

let kept = null; // where a browser keeps nothing for this site, the choice lasts as long as the page
try {
  kept = localStorage;
} catch {
  // not allowed
}
const saved = kept?.getItem("theme");
if (saved) page.dataset.theme = saved;
$("theme").addEventListener("click", () => {
  const dark = page.dataset.theme ? page.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  page.dataset.theme = dark ? "light" : "dark";
  kept?.setItem("theme", page.dataset.theme);
});

$("topic").textContent = topic;
sized();
connect();
if (matchMedia("(hover: hover)").matches) $("prompt").focus();
