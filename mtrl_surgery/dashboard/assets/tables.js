"use strict";
// A part's table, from the numbers that its place has as data.
(() => {
  function element(name, className, ...inner) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...inner);
    return made;
  }

  function cell([text, best, notes], kind) {
    const at = kind === "number" ? text.indexOf(" [") : -1;
    const inner = at < 0 ? [text] : [text.slice(0, at + 1), element("span", "interval", text.slice(at + 1))];
    const made = element("td", kind, ...(best ? [element("b", "", ...inner)] : inner));
    if (notes.length) made.append(element("sup", "", notes.join(", ")));
    return made;
  }

  function fill(place) {
    const { heads, kinds, sections, foot } = JSON.parse(place.dataset.table);
    const head = element("tr", "", ...heads.map((text, at) => element("th", kinds[at], text.replace(/ (?=[\u2191\u2193])/, "\u00a0"))));
    const body = element("tbody");
    for (const [title, rows] of sections) {
      if (title) {
        const over = element("th", "", title);
        over.colSpan = heads.length;
        body.append(element("tr", "section", over));
      }
      body.append(...rows.map((row) => element("tr", "", ...row.map((own, at) => cell(own, kinds[at])))));
    }
    const whole = element("div", "scroll", element("table", "", element("thead", "", head), body));
    place.replaceChildren(whole, ...foot.map((line) => element("p", "note", line)));
  }

  new MutationObserver((changes) => {
    for (const { type, target, addedNodes } of changes) {
      if (type === "attributes") fill(target);
      for (const node of addedNodes) if (node.querySelectorAll) [node, ...node.querySelectorAll("[data-table]")].filter((own) => own.dataset?.table).forEach(fill);
    }
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-table"] });
})();
