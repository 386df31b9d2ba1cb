// Draws the lag's history as SVG from the REST interface.
"use strict";
(() => {
  const box = document.querySelector("[data-chart]");
  if (!box) return;
  const HOUR_MS = 3600e3;
  const LEAST_SPAN_MS = 300e3;
  const HEIGHT = 220;
  const PAD = { left: 46, right: 12, top: 14, bottom: 24 };
  const NAMES = { records: "Rows behind", seconds: "Age of the oldest waiting row", records_per_s: "Rows per second" };
  let series = "records";
  let points = [];
  let marker = null;

  const draw = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const span = (seconds) =>
    seconds < 90 ? `${+seconds.toFixed(seconds < 10 ? 1 : 0)} s` : seconds < 5400 ? `${+(seconds / 60).toFixed(1)} min` : `${+(seconds / 3600).toFixed(1)} h`;
  const said = (value) => (series === "seconds" ? span(value) : `${+value.toFixed(value < 10 ? 2 : 0)}`);

  const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60];
  const roundUp = (value) => {
    if (series === "seconds") {
      for (const step of [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200]) if (value <= 4 * step) return 4 * step;
    }
    const least = series === "records_per_s" ? 0.1 : 1;
    let step = least;
    for (let power = 1; 4 * step < value; power *= 10) step = [1, 2, 5].map((n) => n * power * least).find((n) => 4 * n >= value) || step;
    return 4 * step;
  };

  const render = () => {
    if (points.length < 2) {
      box.replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: "The first points of the history are being measured." }));
      return;
    }
    const style = getComputedStyle(box);
    const width = Math.max(280, box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
    const end = points[points.length - 1].at;
    const length = Math.min(HOUR_MS, Math.max(LEAST_SPAN_MS, end - points[0].at));
    const top = roundUp(Math.max(...points.map((point) => point[series]), 1e-9));
    const x = (at) => PAD.left + ((at - end + length) / length) * (width - PAD.left - PAD.right);
    const y = (value) => HEIGHT - PAD.bottom - (value / top) * (HEIGHT - PAD.top - PAD.bottom);
    const last = points[points.length - 1];
    const svg = draw("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${NAMES[series]}: ${said(last[series])} now, ${said(Math.max(...points.map((p) => p[series])))} at most over ${span(length / 1000)}` });
    for (let index = 0; index <= 4; index += 1) {
      const value = (top * index) / 4;
      svg.append(draw("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: y(value), y2: y(value) }));
      svg.append(draw("text", { class: "axis", x: PAD.left - 8, y: y(value) + 4, "text-anchor": "end" }, said(value)));
    }
    const step = STEPS.map((minutes) => minutes * 60e3).find((each) => length / each <= (width < 500 ? 4 : 6)) || HOUR_MS;
    for (let at = Math.ceil((end - length) / step) * step; at <= end; at += step) {
      if (x(at) < PAD.left + 14 || x(at) > width - PAD.right - 10) continue;
      const clock = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...(step < 60e3 && { second: "2-digit" }), hour12: false });
      svg.append(draw("text", { class: "axis", x: x(at), y: HEIGHT - 6, "text-anchor": "middle" }, clock));
    }
    const shown = points.filter((point) => point.at >= end - length);
    const line = shown.map((point) => `${x(point.at).toFixed(1)},${y(point[series]).toFixed(1)}`).join(" L");
    svg.append(draw("path", { class: "area", d: `M${x(shown[0].at).toFixed(1)},${y(0)} L${line} L${x(last.at)},${y(0)} Z` }));
    svg.append(draw("path", { class: "curve", d: `M${line}` }));
    svg.append(draw("circle", { class: "now", cx: x(last.at), cy: y(last[series]), r: 3.5 }));
    marker = { svg, x, y, shown, group: draw("g", { class: "mark", visibility: "hidden" }) };
    marker.group.append(draw("line", { y1: PAD.top, y2: HEIGHT - PAD.bottom }), draw("circle", { r: 3.5 }), draw("text", { class: "axis strong", y: PAD.top - 3 }));
    svg.append(marker.group);
    box.replaceChildren(svg);
  };

  const point = (event) => {
    if (!marker) return;
    const at = event.clientX - marker.svg.getBoundingClientRect().left;
    const nearest = marker.shown.reduce((best, each) => (Math.abs(marker.x(each.at) - at) < Math.abs(marker.x(best.at) - at) ? each : best));
    const [line, circle, text] = marker.group.children;
    const x = marker.x(nearest.at);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    circle.setAttribute("cx", x);
    circle.setAttribute("cy", marker.y(nearest[series]));
    text.setAttribute("x", x);
    text.setAttribute("text-anchor", x < 120 ? "start" : x > box.clientWidth - 120 ? "end" : "middle");
    text.textContent = `${said(nearest[series])} at ${new Date(nearest.at).toLocaleTimeString([], { hour12: false })}`;
    marker.group.setAttribute("visibility", "visible");
  };

  const load = async () => {
    // A service that is away, or a page that is left in mid-answer: what is drawn stays.
    const report = await fetch(box.dataset.chart).then((answer) => (answer.ok ? answer.json() : null)).catch(() => null);
    if (!report) return;
    points = report.history.map((each) => ({ ...each, at: Date.parse(each.at) }));
    if (report.lag) {
      const now = { at: Date.parse(report.lag.measured_at), records: report.lag.records, seconds: report.lag.seconds, records_per_s: points.at(-1)?.records_per_s ?? 0 };
      if (!points.length || now.at > points[points.length - 1].at) points.push(now);
    }
    render();
  };

  for (const button of document.querySelectorAll("[data-series]")) {
    button.addEventListener("click", () => {
      series = button.dataset.series;
      for (const other of document.querySelectorAll("[data-series]")) other.setAttribute("aria-pressed", String(other === button));
      render();
    });
  }
  box.addEventListener("pointermove", point);
  box.addEventListener("pointerleave", () => marker?.group.setAttribute("visibility", "hidden"));
  document.addEventListener("sluice:refreshed", load);
  new ResizeObserver(() => points.length && render()).observe(box);
  load();
})();
