"use strict";
// The table of runs. Hundreds of rows are patched cell by cell, which Dash's own components are too slow for.
(() => {
  const order = ["running", "silent", "failed", "interrupted", "finished"];
  const number = (digits) => (value) => (value === null ? "–" : value.toFixed(digits));
  const short = (value) => (value >= 1e6 ? `${+(value / 1e6).toFixed(2)}M` : value >= 1e4 ? `${Math.round(value / 1e3)}k` : `${value}`);
  const rate = (value) => (value === null ? "–" : value < 0.1 ? `${(60 * value).toPrecision(2)}/min` : `${value.toPrecision(3)}/s`);
  const span = (s) => (s === null ? "" : s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`);
  const date = (text) => {
    if (!text) return "–";
    const at = new Date(text), two = (value) => String(value).padStart(2, "0");
    return `${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
  };
  const columns = [
    { key: "state", title: "state", by: (row) => order.indexOf(row.state), fill: badge },
    { key: "run", title: "run", fill: link },
    { key: "method", title: "method", fill: method },
    { key: "seed", title: "seed", right: true },
    { key: "score", title: "score", right: true, show: number(3), hint: "mean over tasks at the last evaluation: success, or what the supervised benchmark counts" },
    { key: "progress", title: "progress", fill: bar, by: (row) => row.progress ?? -1 },
    { key: "left", title: "left", right: true, show: span },
    { key: "rate", title: "rate", right: true, show: rate, hint: "vector steps, or epochs" },
    { key: "started", title: "started", show: date },
    { key: "benchmark", title: "benchmark" },
  ];
  let body = null;
  const shown = new Map(); // number of the run -> its row's cells and what they show

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function names(column) { return `${column.key}${column.right ? " number" : ""}`; }

  function badge(row) { return [element("span", `state ${row.state}`, row.state)]; }

  function method(row) {
    const swatch = element("span", "swatch");
    swatch.style.borderTop = `3px ${row.dash === "solid" ? "solid" : row.dash === "dot" ? "dotted" : "dashed"} ${row.colour}`;
    return [swatch, document.createTextNode(row.method)];
  }

  function bar(row) {
    if (row.progress === null) return [document.createTextNode("–")];
    const outer = element("span", "bar"), inner = element("span");
    inner.style.width = `${(100 * row.progress).toFixed(1)}%`;
    outer.append(inner);
    outer.title = `${short(row.done)} done`;
    return [outer, element("span", "of", `${Math.floor(100 * row.progress)}%`)];
  }

  function link(row) {
    const query = new URLSearchParams(location.search);
    query.set("view", "health");
    query.delete("where.run");
    query.append("where.run", row.run.split("/").pop());
    query.delete("benchmark");
    if (row.benchmark) query.set("benchmark", row.benchmark);
    const made = element("a"), name = element("bdi", "", row.run); // the column cuts long names at their start
    made.href = `?${query}`;
    made.title = row.run;
    made.append(name);
    return [made];
  }

  function go(search) { window.dash_clientside.set_props("url", { search }); }

  function sorting() {
    const asked = new URLSearchParams(location.search).get("sort") || "";
    const key = asked.replace(/^-/, "");
    return { column: columns.find((column) => column.key === key), down: asked.startsWith("-"), key };
  }

  function sorted(rows) {
    const { column, down } = sorting();
    const value = (row) => (column ? (column.by ? column.by(row) : row[column.key]) : null);
    const compare = (a, b) => {
      if (!column) return order.indexOf(a.state) - order.indexOf(b.state) || (b.started || "").localeCompare(a.started || "") || a.run.localeCompare(b.run);
      const one = value(a), other = value(b);
      if (one === null || other === null) return (one === null) - (other === null); // what has none is last either way
      const by = typeof one === "number" ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true });
      return (down ? -by : by) || a.run.localeCompare(b.run, undefined, { numeric: true });
    };
    return [...rows].sort(compare);
  }

  function head(place) {
    const row = element("tr");
    for (const column of columns) {
      const cell = element("th", names(column));
      const button = element("button", "", column.title);
      button.type = "button";
      button.title = column.hint || `sort by ${column.title}`;
      button.addEventListener("click", () => {
        const query = new URLSearchParams(location.search), { key, down } = sorting();
        query.set("sort", key === column.key && !down ? `-${column.key}` : column.key);
        go(`?${query}`);
      });
      cell.append(button);
      cell.dataset.key = column.key;
      row.append(cell);
    }
    const table = element("table"), top = element("thead"), scroll = element("div", "scroll");
    body = element("tbody");
    top.append(row);
    table.append(top, body);
    scroll.append(table);
    place.replaceChildren(element("p", "counts"), scroll);
    place.addEventListener("click", (event) => {
      const anchor = event.target.closest("a");
      if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go(new URL(anchor.href).search);
    });
  }

  function fill(row) {
    let own = shown.get(row.number);
    if (!own) {
      own = { element: element("tr"), cells: columns.map((column) => element("td", names(column))), said: [] };
      own.element.append(...own.cells);
      shown.set(row.number, own);
    }
    columns.forEach((column, place) => {
      const text = column.show ? column.show(row[column.key]) : row[column.key];
      const said = column.fill ? JSON.stringify([row[column.key], row.done, row.colour, row.dash, column.key === "run" && location.search]) : text;
      if (own.said[place] === said) return;
      own.said[place] = said;
      if (column.fill) own.cells[place].replaceChildren(...column.fill(row));
      else own.cells[place].textContent = text ?? "–";
    });
    return own.element;
  }

  function runs(rows) {
    const place = document.getElementById("runs");
    place.hidden = !rows;
    if (!rows) return "";
    if (!body || !place.contains(body)) { shown.clear(); head(place); }
    const there = new Set(rows.map((row) => row.number));
    for (const number of [...shown.keys()]) if (!there.has(number)) shown.delete(number);
    const wanted = sorted(rows).map(fill);
    if (wanted.length !== body.children.length || wanted.some((row, at) => body.children[at] !== row)) body.replaceChildren(...wanted);
    const several = new Set(rows.map((row) => row.benchmark)).size > 1;
    place.classList.toggle("one", !several);
    const { key, down } = sorting();
    place.querySelectorAll("th").forEach((cell) => {
      cell.setAttribute("aria-sort", cell.dataset.key === key ? (down ? "descending" : "ascending") : "none");
    });
    const states = order.map((state) => [state, rows.filter((row) => row.state === state).length]).filter(([, count]) => count);
    place.querySelector(".counts").textContent = states.map(([state, count]) => `${count} ${state}`).join(" · ");
    return `${rows.length}`;
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, { mtrl: { runs } });
})();
