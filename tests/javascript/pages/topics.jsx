// What a page with `useTopics` shows. Its address says which topics; `show` changes them.

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useTopics } from "restate-pubsub/react";

const asked = new URLSearchParams(location.search);

function Page() {
  const [names, setNames] = useState(asked.getAll("topic"));
  window.show = setNames;
  const found = useTopics(asked.get("url") ?? "/pubsub", names, { join: asked.get("join") ?? undefined });
  window.found = found;
  window.shown = Object.fromEntries(
    Object.entries(found.topics).map(([name, { messages, ended, incomplete, questions }]) => [
      name,
      { messages: messages.map(({ event, data, offset }) => [event, data, offset]), ended, incomplete, open: questions.length },
    ]),
  );
  return (
    <p id="connection">
      {found.connection} {found.problem?.code}
    </p>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
