// A page with the AI SDK's `useChat`, unmodified, on `TopicChatTransport`. Its address names the chat.

import { useChat } from "@ai-sdk/react";
import { useMemo } from "react";
import { createRoot } from "react-dom/client";
import { TopicChatTransport } from "restate-pubsub/ai-sdk";

const asked = new URLSearchParams(location.search);
window.statuses = [];

function Chat() {
  const transport = useMemo(
    () =>
      new TopicChatTransport({
        topic: (id) => `/pubsub/${id}`,
        send: ({ messages }) =>
          asked.has("refuse")
            ? fetch("/pubsub/x?offset=soon")
            : window.ask(messages.at(-1).parts[0].text),
        ...(asked.has("stops") && { stop: () => ({ id: asked.get("stops"), reason: "enough" }) }),
      }),
    [],
  );
  const { messages, status, error, sendMessage, stop } = useChat({
    id: asked.get("chat"),
    transport,
    resume: asked.has("resume"),
  });
  window.send = (text) => void sendMessage({ text });
  window.stop = stop;
  if (statuses.at(-1) !== status) statuses.push(status);
  const texts = messages.map(({ role, parts }) => [
    role,
    parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join(""),
  ]);
  return (
    <>
      <p id="status">{status}</p>
      <p id="error">{error?.message}</p>
      <p id="texts">{JSON.stringify(texts)}</p>
    </>
  );
}

createRoot(document.getElementById("root")).render(<Chat />);
