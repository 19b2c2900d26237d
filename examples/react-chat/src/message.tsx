/** A message: what the person asked, or the parts of an answer. */

import { isToolUIPart, getToolName, type UIMessage } from "ai";
import { Fragment } from "react";

export function Message({ message }: { message: UIMessage }) {
  return (
    <article className={message.role}>
      {message.parts.map((part, at) => {
        if (part.type === "text") return <Text key={at} text={part.text} />;
        if (!isToolUIPart(part)) return null;
        return (
          <p key={at} className="tool" data-state={part.state}>
            <b>{getToolName(part).replaceAll("_", " ")}</b> <code>{JSON.stringify(part.input)}</code>
            {part.state === "output-available" && <output>{said(part.output)}</output>}
            {part.state === "output-error" && <output>{part.errorText}</output>}
          </p>
        );
      })}
    </article>
  );
}

const said = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));

/** Paragraphs and lists, with what is `code` or **strong**. */
function Text({ text }: { text: string }) {
  return text.split(/\n\n+/).map((block, at) => <p key={at} className="text">{spans(block)}</p>);
}

function spans(text: string) {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`)/).map((piece, at) => {
    if (piece.length > 4 && piece.startsWith("**")) return <strong key={at}>{piece.slice(2, -2)}</strong>;
    if (piece.length > 2 && piece.startsWith("`")) return <code key={at}>{piece.slice(1, -1)}</code>;
    return <Fragment key={at}>{piece}</Fragment>;
  });
}
