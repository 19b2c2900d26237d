/** The page: the chat that its address names, or a new one, once what was said in it is known. */

import type { UIMessage } from "ai";
import { StrictMode, useCallback, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { Chat } from "./chat";
import "./style.css";
import { saidSoFar } from "./topic";

interface Said {
  messages: UIMessage[];
  running: boolean;
}

function Page({ chat }: { chat: string }) {
  const [said, setSaid] = useState<Said>();
  const [problem, setProblem] = useState("");
  const read = useCallback(() => {
    setSaid(undefined);
    saidSoFar(chat).then(setSaid, (error) => setProblem(String(error.message ?? error)));
  }, [chat]);
  useEffect(read, [read]);

  if (problem) return <p className="problem" role="alert">This chat cannot be shown: {problem}</p>;
  return said && <Chat chat={chat} said={said.messages} running={said.running} onMissed={read} />;
}

let chat = /^\/c\/([\w-]+)$/.exec(location.pathname)?.[1];
if (!chat) {
  chat = crypto.randomUUID().slice(0, 8);
  history.replaceState(null, "", `/c/${chat}`);
}
createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <Page chat={chat} />
  </StrictMode>,
);
