/* The explanation's own script: step slider, tensor inspector, graph, theme. */
(() => {
"use strict";
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const on = (node, events, act, options) => { if (node) for (const event of events.split(" ")) node.addEventListener(event, act, options); };
const data = JSON.parse($("#data").textContent), root = document.documentElement;
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
function element(tag, name, text = "") { return Object.assign(document.createElement(tag), { className: name, textContent: text }); }

/* ---- which step of which loop is shown ---- */
const at = data.loops.map((loop) => loop.first);
if (data.loops[data.loop]) at[data.loop] = data.step;
let chosen = data.loop;
const slider = $("#slider"), which = $("#which"), marked = $$("[data-at]").map((node) => [node, node.dataset.at.split(" ").map((one) => one.split(":").map(Number))]);
function show() {
  for (const [node, places] of marked) node.hidden = !places.some(([loop, step]) => loop < 0 || at[loop] === step);
  if (slider) {
    const steps = data.loops[chosen].steps;
    slider.max = steps.length - 1;
    slider.value = steps.indexOf(at[chosen]);
    slider.setAttribute("aria-valuetext", `step ${at[chosen]}`);
    slider.disabled = steps.length < 2;
    which.textContent = at[chosen];
  }
  if (pointed) inspect(pointed);
  for (const graph of graphs) graph.size();
}
function move(by) {
  const steps = data.loops[chosen].steps, next = steps[clamp(steps.indexOf(at[chosen]) + by, 0, steps.length - 1)];
  if (next !== undefined) { at[chosen] = next; show(); }
}
on(slider, "input", () => { at[chosen] = data.loops[chosen].steps[+slider.value]; show(); });
on($("#loop"), "change", (event) => { chosen = +event.target.value; show(); });
on(document, "keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "[") move(-1);
  if (event.key === "]") move(1);
});

/* ---- tensors: the newest note of a name at or above a line, in the steps that are shown ---- */
let pointed = null, kept = false;
const panel = $("#inspector"), resting = panel && [...panel.childNodes];
const names = $$(".t[data-t]");
function notesOf(name, file, line) {
  const found = [];
  for (const [place, rows] of Object.entries(data.tensors)) {
    const [loop, step] = place.split(":").map(Number);
    if (loop >= 0 && at[loop] !== step) continue;
    for (const [f, l, note] of rows) if (f === file && note.name.split(/[.[]/)[0] === name) found.push([l, loop, note]);
  }
  const here = found.filter(([l]) => l <= line).map(([l]) => l);
  const best = here.length ? Math.max(...here) : Math.max(...found.map(([l]) => l));
  return found.filter(([l]) => l === best).map(([, , note]) => note);
}
function inspect(node) {
  const [file, line] = node.closest(".row").id.slice(1).split("-").map(Number), notes = notesOf(node.dataset.t, file, line);
  if (!notes.length) { if (!kept) rest(); return; }
  panel.replaceChildren(...notes.slice(0, 3).flatMap(describe));
}
function describe(note) {
  const list = element("dl", "pairs"), row = (name, value) => {
    if (value === undefined || value === "") return;
    const pair = element("div", "");
    pair.append(element("dt", "", name), element("dd", "", value));
    list.append(pair);
  };
  row("shape", `${note.shape}`);
  row("values", note.values);
  row("type", `${note.dtype} on ${note.device}`);
  row("size", `${note.numbers} numbers, ${note.bytes}`);
  row("requires grad", note.requires_grad ? "yes" : "no");
  row("made by", note.node || (note.requires_grad ? "a leaf" : ""));
  row(".grad", note.node ? "None: no leaf" : note.grad !== undefined ? `norm ${note.grad}` : note.requires_grad ? "None" : "");
  row("norm", note.norm);
  row("smallest, largest", note.low !== undefined ? `${note.low}, ${note.high}` : undefined);
  row("mean ± deviation", note.mean !== undefined ? `${note.mean} ± ${note.std || 0}` : undefined);
  row("zeros", note.zeros);
  row("not finite", note.nonfinite);
  const out = [element("h3", "mono", note.name), list];
  if (note.histogram) {
    const bars = element("div", "bars"), most = Math.max(...note.histogram);
    bars.append(...note.histogram.map((n) => { const bar = element("i", ""); bar.style.setProperty("--v", n / most); bar.title = n; return bar; }));
    out.push(bars, element("p", "fine", `from ${note.sampled} of its numbers`));
  }
  return out;
}
function rest() { pointed = null; kept = false; panel.replaceChildren(...resting); for (const name of names) name.classList.remove("now"); }
for (const name of names) {
  name.tabIndex = 0;
  const look = (keep) => { if (kept && !keep) return; for (const other of names) other.classList.toggle("now", other === name); pointed = name; kept = keep; inspect(name); };
  on(name, "pointerenter", () => look(false));
  on(name, "focus click", () => look(true));
}
on(document, "keydown", (event) => { if (event.key === "Escape" && panel) rest(); });

/* ---- the graph: nodes from left to right in forward order, modules above them ---- */
const ROW = 24, NODE = 34, ARC = 44, REPEATED = 3;
class Graph {
  constructor(box) {
    const note = data.graphs[box.dataset.graph];
    Object.assign(this, { box, note, canvas: $("canvas", box), readout: $(".cell-readout", box), body: $("tbody", box), folded: new Set(), left: 0, zoom: 1 });
    this.resting = this.readout.textContent;
    this.count = note.name.length;
    this.children = note.groups.map(() => []);
    this.depth = note.groups.map(() => 0);
    note.groups.forEach(([, , parent], i) => { if (parent >= 0) { this.children[parent].push(i); this.depth[i] = this.depth[parent] + 1; } });
    this.levels = Math.min(7, Math.max(0, ...this.depth));
    this.foldRepeated();
    this.layout();
    this.rows(0, 0, null);
    this.listen();
  }
  /** Blocks of one kind and size in a row: the first stays open. */
  foldRepeated() {
    for (const inner of this.children) {
      let start = 0;
      for (let i = 1; i <= inner.length; i++) {
        const like = (a, b) => this.note.groups[a][1] === this.note.groups[b][1] && this.note.groups[a][3] === this.note.groups[b][3];
        if (i < inner.length && like(inner[start], inner[i])) continue;
        if (i - start >= REPEATED && this.note.groups[inner[start]][3] > 4) for (const one of inner.slice(start + 1, i)) this.folded.add(one);
        start = i;
      }
    }
  }
  chain(group) { const out = []; for (let g = group; g > 0; g = this.note.groups[g][2]) out.unshift(g); return out; }
  layout() {
    const { group } = this.note;
    this.chains = this.chains || this.note.groups.map((_, i) => this.chain(i));
    this.x = new Float64Array(this.count + 1);
    for (let i = 0; i < this.count; i++) {
      const fold = this.chains[group[i]].find((g) => this.folded.has(g));
      this.x[i + 1] = this.x[i] + (fold ? 2.5 / this.note.groups[fold][3] : 1);
    }
  }
  size() {
    if (this.box.hidden || !this.canvas.clientWidth) return;
    const ratio = devicePixelRatio || 1, high = this.levels * ROW + NODE + ARC + 8;
    this.canvas.style.height = `${high}px`;
    this.wide = this.canvas.clientWidth;
    this.canvas.width = this.wide * ratio; this.canvas.height = high * ratio;
    this.pen = this.canvas.getContext("2d");
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.draw();
  }
  get scale() { return (this.wide / this.x[this.count]) * this.zoom; }
  px(x) { return (x - this.left) * this.scale; }
  node(pixel) {
    const x = pixel / this.scale + this.left;
    let low = 0, high = this.count - 1;
    while (low < high) { const mid = (low + high + 1) >> 1; if (this.x[mid] <= x) low = mid; else high = mid - 1; }
    return low;
  }
  draw() {
    if (!this.pen) return;
    const { pen, note, wide } = this, style = getComputedStyle(this.box), tone = (name) => { this.canvas.style.color = `var(${name})`; return getComputedStyle(this.canvas).color; };
    const [ink, soft, line, card, well, op, leaf, held] = ["--ink", "--soft", "--line", "--card", "--well", "--p3", "--p6", "--p7"].map(tone);
    pen.clearRect(0, 0, wide, 999);
    pen.font = `12px ${style.fontFamily}`;
    pen.textBaseline = "middle";
    const first = this.node(0), last = this.node(wide), top = this.levels * ROW;
    for (let level = 1; level <= this.levels; level++) {
      let start = first;
      for (let i = first; i <= last + 1; i++) {
        const here = i <= last ? this.chains[note.group[i]][level - 1] : -1, before = this.chains[note.group[start]][level - 1];
        if (i === start || here === before) continue;
        if (before !== undefined) this.block(before, start, i, (level - 1) * ROW, { ink, soft, line, well, card });
        start = i;
      }
    }
    const most = Math.log1p(Math.max(1, ...note.bytes));
    let drawn = -1;
    for (let i = first; i <= last; i++) {
      const from = this.px(this.x[i]), to = this.px(this.x[i + 1]);
      if (to - drawn < 0.6) continue;
      drawn = to;
      const isLeaf = note.names[note.name[i]].startsWith("leaf"), gap = to - from > 3 ? 1 : 0;
      pen.fillStyle = isLeaf ? leaf : op;
      pen.globalAlpha = 0.9;
      pen.fillRect(from, top + 3, Math.max(0.6, to - from - gap), NODE - 6);
      if (note.bytes[i]) { const tall = (NODE - 6) * Math.log1p(note.bytes[i]) / most; pen.globalAlpha = 1; pen.fillStyle = held; pen.fillRect(from, top + NODE - 3 - tall * 0.45, Math.max(0.6, to - from - gap), tall * 0.45); }
      if (to - from > 58) { pen.globalAlpha = 1; pen.fillStyle = card; this.text(note.names[note.name[i]].replace(/Backward\d*$/, ""), from + 5, top + 13, to - from - 8); }
    }
    pen.globalAlpha = 0.35; pen.strokeStyle = soft; pen.lineWidth = 1;
    let arcs = 0;
    for (const [a, b] of note.jumps) {
      const from = this.px((this.x[a] + this.x[a + 1]) / 2), to = this.px((this.x[b] + this.x[b + 1]) / 2), span = Math.abs(from - to);
      if (span < 6 || Math.max(from, to) < 0 || Math.min(from, to) > wide || ++arcs > 1500) continue;
      pen.beginPath(); pen.moveTo(from, top + NODE);
      pen.quadraticCurveTo((from + to) / 2, top + NODE + Math.min(2 * ARC - 8, 10 + span * 0.5), to, top + NODE); pen.stroke();
    }
    pen.globalAlpha = 1;
  }
  block(group, start, end, y, tones) {
    const { pen } = this, from = Math.max(-2, this.px(this.x[start])), to = Math.min(this.wide + 2, this.px(this.x[end]));
    if (to - from < 1) return;
    pen.fillStyle = tones.well; pen.strokeStyle = tones.line;
    pen.beginPath(); pen.roundRect(from + 0.5, y + 1.5, Math.max(0.5, to - from - 2), ROW - 4, 5); pen.fill(); pen.stroke();
    if (to - from > 30) { pen.fillStyle = this.folded.has(group) ? tones.soft : tones.ink; this.text((this.folded.has(group) ? "▸ " : "") + this.label(group), Math.max(from, 0) + 7, y + ROW / 2, to - Math.max(from, 0) - 12); }
  }
  label(group) { const [path, kind] = this.note.groups[group], last = path.split(".").pop(); return last === kind ? kind : `${last} ${kind}`; }
  text(words, x, y, room) {
    if (this.pen.measureText(words).width > room) { while (words.length > 1 && this.pen.measureText(words + "…").width > room) words = words.slice(0, -1); words += "…"; }
    this.pen.fillText(words, x, y);
  }
  /** One row of the table, and its children when it is open. */
  rows(group, depth, after) {
    const [path, kind, , nodes, size, bytes] = this.note.groups[group], row = element("tr", ""), head = element("th", "");
    head.scope = "row"; head.style.setProperty("--d", depth); head.title = path;
    const inner = this.children[group];
    if (inner.length) {
      const button = element("button", "fold");
      button.type = "button"; button.ariaLabel = `Modules inside ${path || "the graph"}`;
      button.setAttribute("aria-expanded", !this.folded.has(group));
      on(button, "click", () => this.toggle(group));
      head.append(button);
    } else head.append(element("span", "leaf"));
    head.append(group ? (depth > 1 ? path.split(".").pop() : path) : "the whole graph");
    const meter = element("span", "meter");
    meter.style.setProperty("--v", bytes / (this.note.groups[0][5] || 1));
    const cells = [[kind, "soft"], [nodes.toLocaleString("en-US"), "n"], [size, "n"]].map(([text, name]) => element("td", name, text)), last = element("td", "n");
    last.append(meter);
    row.append(head, ...cells, last);
    this.body.append(row);
    if (!this.folded.has(group) && this.body.rows.length < 1500) for (const one of inner) this.rows(one, depth + 1, row);
  }
  toggle(group) {
    if (this.folded.has(group)) this.folded.delete(group); else this.folded.add(group);
    const label = `Modules inside ${this.note.groups[group][0] || "the graph"}`;
    this.body.replaceChildren();
    this.rows(0, 0, null);
    const again = $$("button", this.body).find((button) => button.ariaLabel === label);
    if (again && document.activeElement === document.body) again.focus({ preventScroll: true });
    this.layout(); this.clampLeft(); this.draw();
  }
  clampLeft() { this.left = clamp(this.left, 0, this.x[this.count] * (1 - 1 / this.zoom)); }
  zoomAt(pixel, factor) {
    const x = pixel / this.scale + this.left;
    this.zoom = clamp(this.zoom * factor, 1, Math.max(1, this.count / 4));
    this.left = x - pixel / this.scale;
    this.clampLeft(); this.draw();
  }
  pick(event) {
    const area = this.canvas.getBoundingClientRect(), pixel = event.clientX - area.left, y = event.clientY - area.top, i = this.node(clamp(pixel, 0, this.wide));
    const chain = this.chains[this.note.group[i]], level = Math.floor(y / ROW);
    return { pixel, i, group: y < this.levels * ROW ? chain[level] : undefined };
  }
  listen() {
    const { canvas, note } = this;
    let start = null, dragged = false;
    on(canvas, "wheel", (event) => { event.preventDefault(); this.zoomAt(this.pick(event).pixel, Math.exp(-event.deltaY / 300)); }, { passive: false });
    on(canvas, "pointerdown", (event) => { start = { x: event.clientX, left: this.left }; dragged = false; canvas.setPointerCapture(event.pointerId); });
    on(canvas, "pointermove", (event) => {
      if (start) { dragged ||= Math.abs(event.clientX - start.x) > 4; this.left = start.left - (event.clientX - start.x) / this.scale; this.clampLeft(); this.draw(); return; }
      const { i, group } = this.pick(event);
      if (group !== undefined) { const [path, kind, , nodes, size] = note.groups[group]; this.readout.textContent = `${path} (${kind}): ${nodes} nodes keep ${size}`; }
      else { const [path] = note.groups[note.group[i]]; this.readout.textContent = [note.names[note.name[i]], path, note.places[note.line[i]], note.bytes[i] ? `keeps ${note.bytes[i].toLocaleString("en-US")} bytes` : ""].filter(Boolean).join(" · "); }
    });
    on(canvas, "pointerup", (event) => { const { group } = this.pick(event); start = null; if (!dragged && group !== undefined) this.toggle(group); });
    on(canvas, "pointercancel pointerleave", () => { start = null; this.readout.textContent = this.resting; });
    on(canvas, "keydown", (event) => {
      const stride = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (stride) { this.left += stride * this.x[this.count] / this.zoom / 8; this.clampLeft(); this.draw(); }
      else if ("+=".includes(event.key)) this.zoomAt(this.wide / 2, 1.5);
      else if (event.key === "-") this.zoomAt(this.wide / 2, 1 / 1.5);
      else if (event.key === "Escape") { this.zoom = 1; this.left = 0; this.draw(); }
      else return;
      event.preventDefault();
    });
    new ResizeObserver(() => this.size()).observe(canvas.parentNode);
  }
}
const graphs = $$("[data-graph]").map((box) => new Graph(box));

/* ---- commands copy; theme; a page opened from a file may not be allowed to remember it ---- */
for (const button of $$("[data-copy]")) on(button, "click", async () => {
  try { await navigator.clipboard.writeText(button.dataset.copy); button.textContent = "Copied"; }
  catch { getSelection().selectAllChildren(button.previousElementSibling); button.textContent = "Selected"; }
  setTimeout(() => { button.textContent = "Copy"; }, 1600);
});
function setTheme(theme) {
  root.dataset.theme = theme;
  const words = `Colours: ${theme === "system" ? "as the system" : theme}`;
  Object.assign($("#theme"), { title: words, ariaLabel: words });
  for (const graph of graphs) graph.draw();
}
let theme = "system";
try { theme = localStorage.getItem("loopwright-theme") || theme; } catch { /* not remembered */ }
setTheme(theme);
on($("#theme"), "click", () => {
  const order = matchMedia("(prefers-color-scheme: dark)").matches ? ["system", "light", "dark"] : ["system", "dark", "light"];
  setTheme(order[(order.indexOf(root.dataset.theme) + 1) % 3]);
  try { localStorage.setItem("loopwright-theme", root.dataset.theme); } catch { /* not remembered */ }
});
on(matchMedia("(prefers-color-scheme: dark)"), "change", () => { for (const graph of graphs) graph.draw(); });
show();
})();
