"use strict";
// On a phone, what stands beside a figure goes below it: legend and colour bar would leave no room for the panels.
(() => {
  const narrow = matchMedia("(max-width: 600px)");
  const below = { x: 0, xanchor: "left", yanchor: "bottom", orientation: "h" };
  const LINE = 20, LETTER = 7, KEY = 50, BAR = 56;

  // The lower edge of the figure, with so many more pixels below, in units of the panels' height.
  function bottom({ height, margin }, room) {
    return -(margin.b + room) / (height - margin.t - margin.b);
  }

  function fit(figure) {
    const { layout, data } = figure;
    // A new figure from the server comes without the mark, and is fitted again.
    if (!narrow.matches || layout.meta === "narrow") return;
    const width = figure.closest(".figure").clientWidth, { l, b } = layout.margin, fitted = { ...layout, meta: "narrow", width };
    let room = 0;
    if (layout.showlegend) {
      const names = new Set(data.filter((trace) => trace.showlegend !== false).map((trace) => trace.name));
      const letters = [...names].reduce((sum, name) => sum + KEY + LETTER * name.length, 0);
      room = LINE * Math.ceil(1 + letters / width);
      fitted.legend = { ...layout.legend, ...below, y: bottom(layout, room) };
    } else if (layout.coloraxis && layout.coloraxis.showscale !== false) {
      room = BAR;
      const { colorbar } = layout.coloraxis, title = { ...colorbar.title, side: "top" };
      const bar = { ...colorbar, ...below, y: bottom(layout, room), title, lenmode: "fraction", len: 0.9 };
      fitted.coloraxis = { ...layout.coloraxis, colorbar: bar };
    }
    fitted.margin = { ...layout.margin, l: Math.min(l, 110), r: 12, b: b + room };
    fitted.height = layout.height + room;
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
      fitted[axis] = { ...layout[axis], tickfont: { size: 9 } };
    }
    // A colour bar that is only moved stays where it was drawn: it goes, and comes back.
    const without = { ...fitted, coloraxis: { ...fitted.coloraxis, showscale: false } };
    (fitted.coloraxis ? Plotly.react(figure, data, without) : Promise.resolve()).then(() => Plotly.react(figure, data, fitted));
  }

  new MutationObserver((changes) => {
    for (const { target } of changes) {
      const figure = target.closest?.(".js-plotly-plot");
      if (!figure || figure.dataset.watched || !figure.on) continue;
      figure.dataset.watched = "yes";
      figure.on("plotly_afterplot", () => fit(figure));
      if (figure.layout) fit(figure);
    }
  }).observe(document.documentElement, { subtree: true, childList: true });

  // The choices would take the whole first screen.
  const fold = new MutationObserver(() => {
    const choices = document.getElementById("controls");
    if (!choices) return;
    fold.disconnect();
    if (matchMedia("(max-width: 860px)").matches) choices.open = false;
  });
  fold.observe(document.documentElement, { subtree: true, childList: true });
})();
