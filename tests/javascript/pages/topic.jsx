// What a page with `useTopic` shows. Its address says which topic, and with which options.

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useTopic } from "restate-pubsub/react";

const asked = new URLSearchParams(location.search);
window.renders = 0;

function Topic({ url }) {
  window.renders += 1;
  const topic = useTopic(url, { join: asked.get("join") ?? undefined });
  const { messages, questions, connection, problem, incomplete } = topic;
  window.topic = topic;
  return (
    <>
      <p id="connection">{connection}</p>
      <p id="problem">{problem?.code}</p>
      <p id="incomplete">{String(incomplete)}</p>
      <p id="questions">{JSON.stringify(questions.map(({ question }) => question))}</p>
      <ol>
        {messages.map(({ from, offset, event, data }) => (
          <li key={from}>{JSON.stringify([from, offset, event, data])}</li>
        ))}
      </ol>
    </>
  );
}

function Page() {
  const [url, setUrl] = useState(asked.get("url"));
  window.show = setUrl;
  return <Topic url={url} />;
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
