// A tool asks before it acts: the question with its buttons, and how it ended. What counts is what the topic says.

import { answer, Refused } from "/client/restate-pubsub.js";

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

const ASKS = { send_mail: ["May I send this mail?", "Yes, send it"] };
const LABELS = { to: "To", text: "Text" };

export class Question {
  /** `place` is where it is shown, `back` what gets the focus of a button that goes. */
  constructor(id, { call, arguments: given }, { url, place, speak, back }) {
    this.id = id;
    this.url = url;
    this.speak = speak;
    this.back = back;
    this.isOpen = true;
    this.root = element("section", "question open");
    const [asks, yes] = ASKS[call] ?? [`May I use ${call.replaceAll("_", " ")}?`, "Yes"];
    this.title = element("p", "", asks);
    this.title.id = `question-${id}`;
    this.root.setAttribute("aria-labelledby", this.title.id);
    const facts = element("dl", "");
    for (const [name, value] of Object.entries(given)) {
      facts.append(element("dt", "", LABELS[name] ?? name), element("dd", "", String(value)));
    }
    this.choices = element("div", "choices");
    this.choices.append(this.choice(yes, true), this.choice("No", false));
    this.verdict = element("p", "verdict");
    this.root.append(this.title, facts, this.choices, this.verdict);
    place.append(this.root);
    speak(`A question: ${this.title.textContent} ${Object.values(given).join(". ")}`);
  }

  choice(words, yes) {
    const button = element("button", "", words);
    button.type = "button";
    button.addEventListener("click", () => this.say(yes));
    return button;
  }

  /** Answer, or find out who was faster. The page shows the answer when it is in the topic, not before. */
  async say(yes) {
    if (!this.isOpen || this.sending) return;
    this.sending = true;
    this.offered(false);
    this.note("Sending your answer");
    try {
      await answer(this.url, this.id, { yes });
    } catch (error) {
      if (error instanceof Refused && error.problem.code === "already-answered") return this.beLate();
      if (!this.isOpen) return;
      this.sending = false;
      this.offered(true);
      this.note(`Not answered yet: ${error instanceof Refused ? error.message : "the service cannot be reached"}`, true);
    }
  }

  beLate() {
    this.late = true;
    if (!this.isOpen) this.note(`Your answer came too late. ${this.words}`, true);
  }

  /** The topic says how it ended. */
  end({ answer, withdrawn }) {
    if (withdrawn) this.words = "Nobody answered in time. The question is withdrawn.";
    else this.words = `Answered: ${answer?.yes === true ? "yes" : "no"}`;
    this.close();
    if (this.late) this.beLate();
    else this.note(this.words);
  }

  /** Nothing can be answered any more. */
  close() {
    this.isOpen = false;
    this.root.classList.remove("open");
    if (this.choices.contains(document.activeElement)) this.back.focus();
    this.choices.remove();
  }

  offered(yes) {
    for (const button of this.choices.children) button.ariaDisabled = String(!yes);
  }

  note(words, late = false) {
    this.verdict.textContent = words;
    this.verdict.classList.toggle("late", late);
    this.speak(words);
  }
}
