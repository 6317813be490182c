"use strict";
// A part's table, whose HTML its place has as data: thousands of cells are too many components for Dash.
(() => {
  function fill(place) {
    place.innerHTML = place.dataset.table;
  }

  new MutationObserver((changes) => {
    for (const { type, target, addedNodes } of changes) {
      if (type === "attributes") fill(target);
      for (const node of addedNodes) if (node.querySelectorAll) [node, ...node.querySelectorAll("[data-table]")].filter((own) => own.dataset?.table).forEach(fill);
    }
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-table"] });
})();
