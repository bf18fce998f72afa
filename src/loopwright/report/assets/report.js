/* The page's own script: theme, curves, confusion matrix, foldable model, sortable tables. */
(() => {
"use strict";
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const on = (node, events, act) => { if (node) for (const event of events.split(" ")) node.addEventListener(event, act); };
const data = JSON.parse($("#data").textContent), root = document.documentElement;

function number(x) {
  const size = Math.abs(x);
  if (size >= 1e7 || (size < 1e-4 && size)) return x.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  if (size >= 1e3) return x.toLocaleString("en-US", { maximumFractionDigits: size < 1e4 ? 1 : 0 });
  return String(+x.toPrecision(4));
}
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough)), out = [];
  const step = [1, 2, 5, 10].find((k) => k * power >= rough * 0.999) * power;
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) out.push(+(k * step).toPrecision(12));
  return out;
}
function logTicks(low, high) {
  const out = [], span = Math.log10(high / low), stride = Math.ceil(span / 6);
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e += stride)
    for (const k of span < 1.2 ? [1, 2, 3, 5] : span < 3 ? [1, 3] : [1])
      if (k * 10 ** e >= low && k * 10 ** e <= high) out.push(k * 10 ** e);
  return out.length > 1 ? out : ticks(low, high, 4).filter((t) => t > 0);
}
/** The first index whose x is not below ``x`` (the last one at most). */
function search(xs, x) {
  let low = 0, high = xs.length - 1;
  while (low < high) { const mid = (low + high) >> 1; if (xs[mid] < x) low = mid + 1; else high = mid; }
  return low;
}
function nearest(xs, x) {
  const i = search(xs, x);
  return i && x - xs[i - 1] <= xs[i] - x ? i - 1 : i;
}
const running = (steps = []) => { let sum = 0; return steps.map((d) => (sum += d)); };
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

/** Where a turn lies on the axis of epochs of its run. */
function toEpoch(turn, ends) {
  if (!ends.length) return turn;
  const i = search(ends, turn), from = i ? ends[i - 1] : 0;
  return i + (turn - from) / (ends[i] - from || 1);
}
/** The exponential average of what came before, without the pull towards zero at the start. */
function smoothed(ys, weight) {
  let sum = 0, norm = 0;
  return ys.map((y) => {
    if (y === null) return null;
    sum = sum * weight + y; norm = norm * weight + 1;
    return sum / norm;
  });
}
function element(tag, name, text = "") {
  return Object.assign(document.createElement(tag), { className: name, textContent: text });
}
function draw(parent, tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

/* ---- curves: one state, so that every chart zooms and points together ---- */
const state = { view: "s", smooth: 0.7, zoom: null, at: null };
const LEFT = 54, RIGHT = 10, TOP = 10, BOTTOM = 26, FEW = 40;
const runs = data.runs.map(running);

class Chart {
  constructor(figure) {
    this.id = figure.dataset.chart;
    const spec = data.charts[this.id];
    Object.assign(this, { figure, title: spec.t, exact: spec.k, plot: $(".plot", figure), log: false });
    this.text = spec.p ? (x) => number(100 * x) + " %" : number;
    this.lines = spec.l.map((line) => {
      const ends = runs[line.r || 0] || [], x = running(line.x), mx = running(line.mx);
      const epochs = (turns) => turns.map((turn) => toEpoch(turn, ends));
      return {
        name: line.n, color: `--c:var(--s${line.c})`, dash: line.d || "", views: line.v, bad: line.b || [], ends, on: true, y: line.y, my: line.my,
        s: { x, mx }, e: { x: line.e ? running(line.e) : epochs(x), mx: epochs(mx) },
      };
    });
    this.legend();
    on($("[data-log]", figure), "click", (event) => {
      this.log = !this.log;
      event.currentTarget.setAttribute("aria-pressed", this.log);
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }
  shown() {
    const here = this.lines.filter((line) => line.views.includes(state.view));
    return here.length ? here : this.lines;
  }
  legend() {
    const lines = this.shown();
    $(".legend", this.figure).replaceChildren(...lines.map((line) => {
      const button = element("button", "");
      Object.assign(button, { type: "button", title: line.name, style: line.color });
      button.setAttribute("aria-pressed", line.on);
      button.append(element("i", ""), element("span", "name", lines.length > 1 || line.name !== this.title ? line.name : ""), line.value = element("span", "value"));
      on(button, "click", () => {
        line.on = !line.on;
        button.setAttribute("aria-pressed", line.on);
        this.draw();
      });
      return button;
    }));
  }
  drawable(y) { return y !== null && !(this.log && y <= 0); }
  scales() {
    const [low, high] = state.zoom || domain(state.view);
    let min = Infinity, max = -Infinity;
    for (const line of this.shown()) if (line.on) line[state.view].x.forEach((x, i) => {
      const y = line.y[i];
      if (x >= low && x <= high && this.drawable(y)) { min = Math.min(min, y); max = Math.max(max, y); }
    });
    this.empty = min > max;
    if (this.empty) [min, max] = [0.1, 1];
    const height = this.height - TOP - BOTTOM;
    if (this.log) {
      const pad = Math.max((max / min) ** 0.06, 1.02);
      min /= pad; max *= pad;
      this.py = (y) => TOP + (Math.log(max / y) / Math.log(max / min)) * height;
    } else {
      const pad = max - min > Math.abs(max) * 1e-9 ? (max - min) * 0.06 : Math.abs(max) * 0.1 || 0.5;
      min = min >= 0 && min < pad ? 0 : min - pad;
      max += pad;
      this.py = (y) => TOP + ((max - y) / (max - min)) * height;
    }
    Object.assign(this, { x0: low, x1: high, y0: min, y1: max, wide: this.width - LEFT - RIGHT });
  }
  px(x) { return LEFT + ((x - this.x0) / (this.x1 - this.x0)) * this.wide; }
  invert(pixel) { return this.x0 + ((pixel - LEFT) / this.wide) * (this.x1 - this.x0); }
  inside(x) { return x !== null && x >= this.x0 && x <= this.x1; }
  path(xs, ys) {
    let out = "", pen = false;
    xs.forEach((x, i) => {
      const near = (xs[i + 1] ?? x) >= this.x0 && (xs[i - 1] ?? x) <= this.x1;
      if (!near || !this.drawable(ys[i])) { pen = false; return; }
      out += `${pen ? "L" : "M"}${this.px(x).toFixed(1)} ${this.py(ys[i]).toFixed(1)}`;
      if (!pen && (ys[i + 1] ?? null) === null) out += "h.1";
      pen = true;
    });
    return out;
  }
  draw() {
    this.width = this.plot.clientWidth; this.height = this.plot.clientHeight;
    if (this.width < 120) return;
    this.marks = 0;
    this.scales();
    const right = this.width - RIGHT, floor = this.height - BOTTOM, clip = `clip${this.id}`;
    const words = this.shown().slice(0, 8).map((line) => `${line.name} ends at ${this.value(line, line.y.length - 1)}`);
    const svg = this.svg = draw(null, "svg", {
      viewBox: `0 0 ${this.width} ${this.height}`, role: "img", tabindex: 0,
      "aria-label": `${this.title} over ${state.view === "s" ? "steps" : "epochs"}: ${words.join(", ")}`,
    });
    draw(draw(svg, "clipPath", { id: clip }), "rect", { x: LEFT, y: 0, width: this.wide + 4, height: floor + 2 });
    for (const t of this.log ? logTicks(this.y0, this.y1) : ticks(this.y0, this.y1, this.height / 45)) {
      const y = Math.round(this.py(t)) + 0.5;
      draw(svg, "path", { class: "tick", d: `M${LEFT} ${y}H${right}` });
      draw(svg, "text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, this.text(t));
    }
    for (const t of ticks(this.x0, this.x1, Math.max(3, this.width / 80))) {
      const last = this.px(t) > right - 16;
      draw(svg, "text", { x: last ? right + 4 : this.px(t), y: this.height - 7, "text-anchor": last ? "end" : "middle" }, number(t));
    }
    const body = draw(svg, "g", { "clip-path": `url(#${clip})` });
    for (const line of this.shown()) if (line.on) this.drawLine(line, body, floor);
    if (this.empty) draw(svg, "text", { x: LEFT + this.wide / 2, y: this.height / 2, "text-anchor": "middle" }, "nothing finite to draw here");
    this.over = draw(svg, "g", { "pointer-events": "none" });
    const focused = this.plot.contains(document.activeElement);
    this.plot.replaceChildren(svg);
    this.listen(svg);
    if (focused) svg.focus({ preventScroll: true });
    this.cross(state.at);
  }
  drawLine(line, body, floor) {
    const { x, mx } = line[state.view], style = line.color, path = { class: "line", style, "stroke-dasharray": line.dash };
    line.soft = null;
    if (x.length > FEW && state.smooth > 0 && !this.exact) {
      draw(body, "path", { class: "raw", style, d: this.path(x, line.y) });
      line.soft = { x: mx.length ? mx : x, y: smoothed(line.my || line.y, state.smooth) };
      draw(body, "path", { ...path, d: this.path(line.soft.x, line.soft.y) });
    } else draw(body, "path", { ...path, d: this.path(x, line.y) });
    const seen = x.filter((at) => this.inside(at));
    if (seen.length <= FEW) x.forEach((at, i) => {
      if (this.inside(at) && this.drawable(line.y[i])) draw(body, "circle", { class: "spot", style, cx: this.px(at), cy: this.py(line.y[i]), r: 2.6 });
    });
    line.bad.forEach(([from, to, kind], i) => {
      const [a, b] = [from, to].map((turn) => this.px(state.view === "s" ? turn : line.e.x[nearest(line.s.x, turn)]));
      draw(body, "rect", { class: "bad", x: a, y: TOP, width: Math.max(2, b - a), height: floor - TOP });
      if (i > 2) return;
      draw(body, "path", { class: "bad-edge", d: `M${a} ${TOP}V${floor}` });
      const end = a > this.width / 2, name = this.lines.length > 1 ? line.name + " " : "";
      draw(body, "text", { class: "bad-name", x: end ? a - 6 : a + 6, y: TOP + 13 + 15 * this.marks++, "text-anchor": end ? "end" : "start" }, `${name}${kind} at step ${number(from)}`);
    });
  }
  value(line, i) {
    if (i < 0) return "–";
    if (line.y[i] !== null) return this.text(line.y[i]);
    const turn = line.s.x[i], range = line.bad.find(([from, to]) => turn >= from && turn <= to);
    return range ? range[2] : "NaN";
  }
  /** Crosshair and readout at ``x``; null: gone, the legend shows the last values. */
  cross(x) {
    if (!this.svg) return;
    this.over.replaceChildren();
    const inside = this.inside(x);
    if (inside) {
      const at = this.px(x), floor = this.height - BOTTOM, text = state.view === "s" ? `step ${number(Math.round(x))}` : `epoch ${+x.toFixed(2)}`;
      const width = 14 + 6.6 * text.length, left = clamp(at - width / 2, 2, this.width - width - 2);
      draw(this.over, "path", { class: "cross", d: `M${Math.round(at) + 0.5} ${TOP}V${floor}` });
      draw(this.over, "rect", { class: "pill", x: left, y: floor + 3, width, height: 20, rx: 6 });
      draw(this.over, "text", { class: "pill-text", x: left + width / 2, y: floor + 17, "text-anchor": "middle" }, text);
    }
    for (const line of this.shown()) {
      const xs = line[state.view].x, i = inside ? nearest(xs, x) : xs.length - 1, y = line.y[i];
      line.value.textContent = this.value(line, i);
      line.value.classList.toggle("nan", y === null);
      if (!inside || !line.on || !xs.length) continue;
      const soft = line.soft && line.soft.y[nearest(line.soft.x, xs[i])];
      if (soft !== null) line.value.append(element("small", "", `  smooth ${this.text(soft)}`));
      if (this.drawable(y)) draw(this.over, "circle", { class: "now", style: line.color, cx: this.px(xs[i]), cy: this.py(y), r: 4.5 });
    }
  }
  /** The places that the crosshair stops at: those of the line with the most points. */
  stops() {
    const most = this.shown().filter((line) => line.on).map((line) => line[state.view].x).sort((a, b) => b.length - a.length)[0];
    return (most || []).filter((x) => this.inside(x));
  }
  listen(svg) {
    let start = null, brush = null, stops = this.stops();
    const pixel = (event) => clamp(event.clientX - svg.getBoundingClientRect().left, LEFT, this.width - RIGHT);
    const aim = (now) => point(stops.length ? stops[nearest(stops, this.invert(now))] : null);
    const stop = () => { start = null; if (brush) brush.remove(); brush = null; };
    on(svg, "pointerdown", (event) => {
      if (event.button) return;
      start = pixel(event);
      if (event.pointerType !== "touch") svg.setPointerCapture(event.pointerId);
      aim(start);
    });
    on(svg, "pointermove", (event) => {
      const now = pixel(event);
      aim(now);
      if (start === null || Math.abs(now - start) < 6) return;
      brush ||= draw(svg, "rect", { class: "brush", y: TOP, height: this.height - TOP - BOTTOM });
      brush.setAttribute("x", Math.min(start, now));
      brush.setAttribute("width", Math.abs(now - start));
    });
    on(svg, "pointerup", (event) => {
      const ends = [start, pixel(event)].sort((a, b) => a - b).map((p) => this.invert(p)), dragged = brush;
      stop();
      if (dragged) zoom(ends);
    });
    on(svg, "pointercancel", stop);
    on(svg, "pointerleave", () => { if (start === null) point(null); });
    on(svg, "blur", () => { if (this.svg === svg) point(null); });
    on(svg, "dblclick", () => zoom(null));
    on(svg, "keydown", (event) => {
      const span = this.x1 - this.x0, at = state.at ?? (this.x0 + this.x1) / 2;
      const stride = { ArrowLeft: -1, ArrowRight: 1 }[event.key] * (event.shiftKey ? 10 : 1);
      if (stride && stops.length) point(stops[clamp(nearest(stops, at) + stride, 0, stops.length - 1)]);
      else if ("+=".includes(event.key)) zoom([at - span / 4, at + span / 4]);
      else if (event.key === "-") zoom([at - span, at + span]);
      else if (event.key === "Escape") zoom(null);
      else return;
      event.preventDefault();
    });
  }
}

const charts = $$(".chart").map((figure) => new Chart(figure)), domains = {};
function domain(view) {
  if (domains[view]) return domains[view];
  let low = Infinity, high = -Infinity;
  for (const chart of charts) for (const line of chart.lines) {
    const xs = line[view].x;
    if (xs.length) { low = Math.min(low, xs[0]); high = Math.max(high, xs[xs.length - 1]); }
  }
  if (low > 0 && low < high / 20) low = 0;
  if (low >= high) { low -= 0.5; high = low + 1; }
  return (domains[view] = [low, high]);
}
let pending = false;
function redraw() {
  if (!pending) requestAnimationFrame(() => { pending = false; for (const chart of charts) chart.draw(); });
  pending = true;
}
function point(x) {
  state.at = x;
  for (const chart of charts) chart.cross(x);
}
function zoom(range) {
  const [low, high] = domain(state.view);
  if (range) {
    range = [Math.max(low, range[0]), Math.min(high, range[1])];
    if (range[1] - range[0] < (high - low) * 1e-4) return;
  }
  state.zoom = range;
  $("#reset").disabled = !range;
  redraw();
}
for (const button of $$("[data-view]")) {
  on(button, "click", () => {
    Object.assign(state, { view: button.dataset.view, at: null });
    for (const other of $$("[data-view]")) other.setAttribute("aria-checked", other === button);
    for (const chart of charts) chart.legend();
    zoom(null);
  });
}
on($("#reset"), "click", () => zoom(null));
on($("#smooth"), "input", (event) => {
  state.smooth = +event.target.value;
  $("#smooth-value").textContent = state.smooth.toFixed(2);
  redraw();
});

/* ---- confusion matrices: a table, or a picture of many classes ---- */
function paint(box) {
  const canvas = $("canvas", box), matrix = (data.matrices || [])[box.dataset.matrix];
  if (!canvas || !matrix) return;
  const size = matrix.names.length, pen = canvas.getContext("2d"), side = canvas.width = canvas.height = Math.max(960, size);
  const cell = side / size, inner = cell - (cell > 6);
  const tone = (name) => { canvas.style.color = `var(${name})`; return getComputedStyle(canvas).color; };
  const right = tone("--s0"), wrong = tone("--s1");
  for (const [i, j, n] of matrix.cells) {
    const share = n / matrix.rows[i];
    pen.fillStyle = i === j ? right : wrong;
    pen.globalAlpha = i === j ? 0.15 + 0.85 * share : Math.min(1, 0.3 + 2 * share);
    pen.fillRect(j * cell, i * cell, inner, inner);
  }
}
for (const box of $$(".matrix")) {
  const readout = $(".cell-readout", box), resting = readout.textContent, table = $("table", box);
  const matrix = (data.matrices || [])[box.dataset.matrix], names = matrix ? matrix.names : $$("thead th", table).map((th) => th.title);
  const known = matrix && new Map(matrix.cells.map(([i, j, n]) => [i * names.length + j, n]));
  const say = (i, j, n, all) => {
    readout.textContent = `${names[i]} ${i === j ? "recognised" : `taken for ${names[j]}`}: ${number(n)} of ${number(all)} (${(100 * n / (all || 1)).toFixed(1)} %)`;
  };
  on(box, "pointerover pointermove", ({ target, clientX, clientY }) => {
    if (target.dataset.at) {
      const [i, j] = target.dataset.at.split(",").map(Number), counts = $$("td", target.parentNode).map((td) => +td.textContent);
      say(i, j, counts[j], counts.reduce((a, b) => a + b));
    } else if (target.tagName === "CANVAS") {
      const area = target.getBoundingClientRect(), size = names.length;
      const at = (offset) => clamp(Math.floor((offset / area.width) * size), 0, size - 1);
      const i = at(clientY - area.top), j = at(clientX - area.left);
      say(i, j, known.get(i * size + j) || 0, matrix.rows[i]);
    }
  });
  on(box, "pointerleave", () => { readout.textContent = resting; });
}

/* ---- the model folds, tables sort, commands copy ---- */
for (const button of $$(".fold")) on(button, "click", () => {
  const open = [];
  button.setAttribute("aria-expanded", button.getAttribute("aria-expanded") !== "true");
  for (const row of button.closest("tbody").rows) {
    const depth = +row.dataset.depth, fold = $(".fold", row);
    row.hidden = open.slice(0, depth).includes(false);
    open.length = depth;
    open[depth] = !fold || fold.getAttribute("aria-expanded") === "true";
  }
});
for (const table of $$(".sortable")) $$("thead th", table).forEach((head, column) => {
  const button = element("button", "", head.textContent), body = table.tBodies[0];
  head.replaceChildren(button);
  on(button, "click", () => {
    const sign = head.ariaSort === "ascending" ? -1 : 1;
    const key = (row) => row.cells[column].textContent.replace(/[,%]/g, "").trim();
    const rows = [...body.rows].sort((a, b) => sign * key(a).localeCompare(key(b), "en", { numeric: true }));
    for (const other of $$("thead th", table)) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    body.append(...rows);
  });
});
for (const button of $$("[data-copy]")) on(button, "click", async () => {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1600);
});

/* ---- theme; a page opened from a file may not be allowed to remember it ---- */
function setTheme(theme) {
  root.dataset.theme = theme;
  const words = `Colours: ${theme === "system" ? "as the system" : theme}`;
  Object.assign($("#theme"), { title: words, ariaLabel: words });
  $$(".matrix").forEach(paint);
}
let theme = "system";
try { theme = localStorage.getItem("loopwright-theme") || theme; } catch { /* not remembered */ }
setTheme(theme);
on($("#theme"), "click", () => {
  const order = matchMedia("(prefers-color-scheme: dark)").matches ? ["system", "light", "dark"] : ["system", "dark", "light"];
  setTheme(order[(order.indexOf(root.dataset.theme) + 1) % 3]);
  try { localStorage.setItem("loopwright-theme", root.dataset.theme); } catch { /* not remembered */ }
});
})();
