/** One chat: `useChat` as it is, and the page around it. */

import { useChat } from "@ai-sdk/react";
import type { UIMessage } from "ai";
import { useEffect, useRef, useState } from "react";
import { stop } from "restate-pubsub";
import { Message } from "./message";
import { asked, topicOf, transport } from "./topic";

const IDEAS = [
  "How long would a train take to the Moon?",
  "What keeps this answer safe?",
  "/fail What happens when a step fails?",
];
const AGAIN = 300; // milliseconds

interface Props {
  chat: string;
  /** What was said before; if an answer is `running`, it is not among it. */
  said: UIMessage[];
  running: boolean;
  /** The answer that was running had ended before it could be resumed. */
  onMissed: () => void;
}

export function Chat({ chat, said, running, onMissed }: Props) {
  const { messages, status, error, sendMessage, regenerate, resumeStream } = useChat({ id: chat, messages: said, transport });
  const busy = status === "submitted" || status === "streaming";
  const [resuming, setResuming] = useState(running);
  const [stopping, setStopping] = useState(false);
  const now = useRef({ busy, messages });
  now.current = { busy, messages };

  // `resume: true` would do the same, and not say that there was nothing to resume any more.
  const resumed = useRef(false);
  useEffect(() => {
    if (!running || resumed.current) return;
    resumed.current = true;
    void resumeStream().then(() => {
      setResuming(false);
      if (now.current.messages.length === said.length) onMissed();
    });
  }, []);

  // The agent is stopped, not this page's reading: every reader sees the event, and it ends the answer here as well.
  // While no model speaks there is nothing to stop, so this goes on until there is, or until the answer has ended.
  async function stopAgent() {
    setStopping(true);
    while (now.current.busy && !(await stop(topicOf(chat), { reason: "You pressed stop" })).stopped.length) {
      await new Promise((done) => setTimeout(done, AGAIN));
    }
  }
  useEffect(() => {
    if (!busy) setStopping(false);
  }, [busy]);

  const send = (text: string) => void (text.trim() && sendMessage(asked(text.trim())));
  return (
    <>
      <header>
        <h1>useChat</h1>
        <p id="status" role="status" data-status={resuming && !busy ? "resuming" : status}>
          {stopping ? "stopping" : status}
        </p>
        <a href="/">New chat</a>
      </header>
      <main>
        {messages.map((message) => (
          <Message key={message.id} message={message} />
        ))}
        {!messages.length && !busy && !resuming && (
          <section id="ideas">
            <h2>Ask something, then try to break it.</h2>
            <p>Reload in the middle of an answer, or kill the service or the agent: the answer goes on.</p>
            {IDEAS.map((idea) => (
              <button key={idea} onClick={() => send(idea)}>{idea}</button>
            ))}
          </section>
        )}
        {error && (
          <p className="problem" role="alert">
            {error.message} <button onClick={() => void regenerate()}>Try again</button>
          </p>
        )}
      </main>
      <Composer busy={busy || resuming} stopping={stopping} onSend={send} onStop={() => void stopAgent()} />
    </>
  );
}

interface ComposerProps {
  busy: boolean;
  stopping: boolean;
  onSend: (text: string) => void;
  onStop: () => void;
}

function Composer({ busy, stopping, onSend, onStop }: ComposerProps) {
  const [text, setText] = useState("");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (busy) return;
        onSend(text);
        setText("");
      }}
    >
      <input aria-label="Your prompt" placeholder="Ask something" value={text} autoFocus onChange={(event) => setText(event.target.value)} />
      {busy ? (
        <button type="button" onClick={onStop} disabled={stopping}>Stop</button>
      ) : (
        <button type="submit">Send</button>
      )}
    </form>
  );
}
