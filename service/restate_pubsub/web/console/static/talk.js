// What people say back to a topic: stops, questions and answers. Which questions are open, as far as was read.

export class TalkBack {
  #asked = new Map(); // by the question's id; those that have ended are not kept

  /** How many questions are open. */
  get open() {
    return [...this.#asked.values()].filter(({ words }) => words === "open").length;
  }

  /** Take an event, and return the note that stands beside its name, if it has one. */
  take({ id: place, event, data }) {
    if (event === "reset") return this.#all("not known", { forget: "not known" }); // its answer may be what was missed
    if (event === "end") return this.#all("not answered");
    if (!["stop", "question", "answer"].includes(event)) return null;
    const { id, withdrawn } = parsed(data);
    if (event === "stop") return id === undefined ? new Note("every stream") : null;
    if (typeof id !== "string") return null; // older than the names' being reserved: a message like any other
    if (event === "question") return this.#ask(id, place);
    const question = this.#asked.get(id);
    this.#asked.delete(id);
    question?.say(withdrawn ? "withdrawn" : `answered by ${place}`);
    if (withdrawn) return new Note("withdrawn");
    return question ? new Note(`to ${question.place}`) : null;
  }

  #ask(id, place) {
    const note = new Note("open");
    note.place = place;
    this.#asked.set(id, note);
    return note;
  }

  #all(words, { forget = null } = {}) {
    for (const [id, note] of this.#asked) {
      if (note.words === forget) this.#asked.delete(id);
      else note.say(words);
    }
    return null;
  }
}

/** What an event says; nothing of what somebody else wrote into the topic's state, which a note must not stop over. */
function parsed(data) {
  try {
    return Object(JSON.parse(data));
  } catch {
    return {};
  }
}

/** Words that may change after they are shown. */
class Note {
  constructor(words) {
    this.words = words;
    this.element = null; // once it is shown
  }

  say(words) {
    this.words = words;
    if (this.element) this.show();
  }

  /** Return the element that shows it. */
  show() {
    this.element ??= document.createElement("span");
    this.element.className = `note ${this.words === "open" ? "open" : ""}`.trim();
    this.element.textContent = this.words;
    return this.element;
  }
}
