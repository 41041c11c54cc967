// The DOM of lines: links to them in errors, and the mark that shows where one leads.

import { references } from "./cellsLines.ts";

const LINK = "nbc-line-link";
const LONGEST = 200_000; // characters that are looked through
const SHOWN = 2500; // ms that a line is marked

/** Make links of the lines that texts name, in the elements that a selector names. */
export function linkLines(root: Element, selector: string, title: string): void {
  for (const pre of root.querySelectorAll(selector)) {
    const text = pre.textContent ?? "";
    if (text.length > LONGEST || pre.querySelector(`.${LINK}`)) continue;
    const found = references(text);
    // From the end: what is before it stays where it is.
    for (const { start, end, count, line } of found.reverse()) {
      const range = rangeOf(pre, start, end);
      if (!range) continue;
      const link = document.createElement("a");
      link.className = LINK;
      link.href = "#";
      link.title = title;
      link.dataset.nbcCount = String(count);
      link.dataset.nbcLine = String(line);
      link.dataset.lmSuppressShortcuts = "true"; // Enter follows it
      link.append(range.extractContents());
      range.insertNode(link);
    }
  }
}

/** The line that a click means. */
export function clickedLine(event: Event): { count: number; line: number } | null {
  const link = event.target instanceof Element ? event.target.closest<HTMLElement>(`.${LINK}`) : null;
  return link ? { count: Number(link.dataset.nbcCount), line: Number(link.dataset.nbcLine) } : null;
}

/** A part of the text of an element, which may be in many nodes. */
function rangeOf(element: Element, start: number, end: number): Range | null {
  const range = document.createRange();
  const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let at = 0;
  let begun = false;
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const length = node.nodeValue?.length ?? 0;
    if (!begun && start < at + length) {
      range.setStart(node, start - at);
      begun = true;
    }
    if (begun && end <= at + length) {
      range.setEnd(node, end - at);
      return range;
    }
    at += length;
  }
  return null;
}

/** Mark a line of an editor for a moment; `top` and `bottom` are where it is in the window. */
export function markLine(host: HTMLElement, top: number, bottom: number): void {
  host.querySelector(":scope > .nbc-line-mark")?.remove();
  const mark = document.createElement("div");
  mark.className = "nbc-line-mark";
  mark.setAttribute("aria-hidden", "true");
  mark.style.top = `${top - host.getBoundingClientRect().top + host.scrollTop}px`;
  mark.style.height = `${bottom - top}px`;
  host.append(mark);
  setTimeout(() => mark.remove(), SHOWN);
}
