// An answer's text as elements: paragraphs, lists, **bold** and `code`. Nothing is ever parsed as HTML.

const INLINE = /\*\*(.+?)\*\*|`([^`]+)`/g;

function inline(parent, text) {
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    parent.append(text.slice(end, match.index));
    const element = document.createElement(match[1] === undefined ? "code" : "strong");
    element.textContent = match[1] ?? match[2];
    parent.append(element);
    end = match.index + match[0].length;
  }
  parent.append(text.slice(end));
  return parent;
}

function block(text) {
  if (!text.startsWith("- ")) return inline(document.createElement("p"), text.replaceAll("\n", " "));
  const list = document.createElement("ul");
  for (const item of text.slice(2).split("\n- ")) list.append(inline(document.createElement("li"), item));
  return list;
}

/** Show `text` in `parent`, touching only the blocks that changed: what a reader has selected stays selected. */
export function show(parent, text) {
  const blocks = text.split(/\n{2,}/).filter(Boolean);
  blocks.forEach((source, at) => {
    const old = parent.children[at];
    if (old?.source === source) return;
    const element = block(source);
    element.source = source;
    if (old) old.replaceWith(element);
    else parent.append(element);
  });
  while (parent.children.length > blocks.length) parent.lastChild.remove();
}
