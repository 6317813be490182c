"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const colours = {
    light: { text: "#1c2330", dim: "#5b6576", grid: "#e8ebf0", line: "#aab3bf", paper: "#ffffff" },
    dark: { text: "#e3e8ef", dim: "#99a4b3", grid: "#262d38", line: "#4a5563", paper: "#1c222b" },
  };
  const root = document.documentElement;
  const chosen = new URLSearchParams(location.search).get("theme");
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "dark" : "light";

  function template() {
    const own = colours[root.dataset.theme];
    const axis = {
      gridcolor: own.grid, zerolinecolor: own.grid, linecolor: own.line, tickcolor: own.line, ticks: "outside", ticklen: 4,
      showline: true, automargin: false, title: { font: { size: 12, color: own.dim }, standoff: 8 }, tickfont: { size: 11 },
    };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
        font: { family: "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", size: 12, color: own.text },
        annotationdefaults: { font: { size: 12, color: own.text } },
        hoverlabel: { bgcolor: own.paper, bordercolor: own.line, font: { color: own.text, size: 12 } },
        coloraxis: { colorbar: { tickcolor: own.line, tickfont: { size: 11 }, title: { font: { size: 12, color: own.dim } } } },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: own.line, activecolor: own.text },
        legend: { bgcolor: "rgba(0,0,0,0)" },
      },
    };
  }

  const options = { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const drawn = new Set();

  function draw(id, size = { autosize: true, width: undefined }) {
    const figure = figures[id];
    drawn.add(id);
    return Plotly.react(id, figure.data, { ...figure.layout, ...size, template: template() }, options);
  }

  // A long report is drawn as it is scrolled to.
  const watch = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting && !drawn.has(target.id)) draw(target.id);
    }
  }, { rootMargin: "800px" });
  document.querySelectorAll(".figure").forEach((element) => watch.observe(element));

  document.querySelectorAll(".tabs").forEach((tabs) => tabs.addEventListener("click", ({ target }) => {
    if (!target.dataset.show) return;
    for (const button of tabs.children) {
      const on = button === target;
      button.classList.toggle("on", on);
      document.getElementById(button.dataset.show).hidden = !on;
    }
    draw(target.dataset.show);
  }));

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    for (const id of drawn) if (!document.getElementById(id).hidden) draw(id); else drawn.delete(id);
  });

  // Paper has no scrolling, no buttons and no dark mode: all figures are drawn, all variants, in the width of a page.
  const paper = { autosize: false, width: 690 };
  let before = null;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    for (const id of Object.keys(figures)) draw(id, paper);
  });
  addEventListener("afterprint", () => {
    root.dataset.theme = before;
    for (const id of Object.keys(figures)) if (document.getElementById(id).hidden) drawn.delete(id); else draw(id);
  });

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const place = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      links.forEach((link) => link.classList.remove("here"));
      links.get(target.id)?.classList.add("here");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("main section").forEach((section) => place.observe(section));
})();
