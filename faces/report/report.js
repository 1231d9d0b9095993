"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = Array.from(document.querySelectorAll(".plot")).filter((plot) => figures[plot.id]);
  // Named one by one: plotly's own choice holds a button that uploads the figure to a server.
  const buttons = [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]];
  const config = {
    responsive: true, displaylogo: false, modeBarButtons: buttons, showSendToCloud: false, plotlyServerURL: "",
  };
  const light = { ink: "#16202e", soft: "#5b6777", line: "#cfd6df", grid: "#e8ecf1", sheet: "#ffffff" };

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    return Object.fromEntries(Object.keys(light).map((name) => [name, style.getPropertyValue("--" + name).trim()]));
  };

  // The page's colours as a relayout, so that dark, light and paper share one description of a figure.
  const dressed = (layout, colour) => {
    const change = {
      "font.color": colour.ink, "hoverlabel.bgcolor": colour.sheet, "hoverlabel.bordercolor": colour.line,
      "hoverlabel.font.color": colour.ink, "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": colour.soft,
      "modebar.activecolor": colour.ink,
    };
    for (const axis of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      Object.assign(change, {
        [axis + ".gridcolor"]: colour.grid, [axis + ".linecolor"]: colour.line, [axis + ".tickcolor"]: colour.line,
        [axis + ".tickfont.color"]: colour.soft,
      });
    }
    return change;
  };
  const dress = (colour, size) => plots.forEach((plot) =>
    Plotly.relayout(plot, Object.assign(dressed(figures[plot.id].layout, colour), size(plot))));

  // One zoom for all figures of a vault. A follower's own event must not be answered.
  let following = false;
  const follow = (leader, change) => {
    const ranged = Object.keys(change).some((name) => name.startsWith("xaxis."));
    if (following || !ranged) return;
    const axis = leader.layout.xaxis;
    const move = axis.autorange ? { "xaxis.autorange": true } : { "xaxis.range": axis.range.slice() };
    following = true;
    const others = plots.filter((plot) => plot !== leader && plot.dataset.group === leader.dataset.group);
    Promise.all(others.map((plot) => Plotly.relayout(plot, move))).finally(() => { following = false; });
  };

  const colour = colours();
  for (const plot of plots) {
    const figure = figures[plot.id];
    Plotly.newPlot(plot, figure.data, figure.layout, config)
      .then(() => Plotly.relayout(plot, dressed(figure.layout, colour)))
      .then(() => plot.on("plotly_relayout", (change) => follow(plot, change)));
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dress(colours(), () => ({})));
  // On paper a figure with its caption has to fit one sheet; the style sheet says the same heights.
  const sheet = (plot) => ({ width: 980, height: plot.classList.contains("tall") ? 480 : 440, autosize: false });
  addEventListener("beforeprint", () => dress(light, sheet));
  addEventListener("afterprint", () => dress(colours(), () => ({ width: null, height: null, autosize: true })));

  for (const filter of document.querySelectorAll(".filter")) {
    const rows = Array.from(document.getElementById(filter.dataset.table).querySelectorAll("tbody tr"));
    const boxes = Array.from(filter.querySelectorAll("input"));
    const told = filter.querySelector("output");
    const apply = () => {
      const shown = new Set(boxes.filter((box) => box.checked).map((box) => box.dataset.kind));
      let left = 0;
      for (const row of rows) {
        row.hidden = !shown.has(row.dataset.kind);
        left += row.hidden ? 0 : 1;
      }
      told.textContent = left.toLocaleString("en") + " of " + rows.length.toLocaleString("en") + " shown";
    };
    filter.hidden = false;
    filter.addEventListener("change", apply);
    apply();
  }
})();
