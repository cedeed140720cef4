/** A chart of lines over the last minutes, read with the pointer or with arrow keys, and as a table. */

import { h, replace, setMark, setShown, setText, svg } from "../dom.js";
import { timeOfDay } from "../format.js";

/**
 * `at` in milliseconds since 1970 UTC; `null`: not known.
 *
 * @typedef {{at: number, values: Record<string, number | null>}} Sample
 */

const HEIGHT = 190;
const EDGE = { left: 58, right: 10, top: 10, bottom: 22 };
const TICKS = 4;
/** How much time is shown while not more was seen yet. */
const SPANS_MS = [60_000, 120_000];
/** Between two labels of the time, in milliseconds. */
const STEPS_MS = [15_000, 30_000, 60_000, 120_000];
const LABEL_WIDTH = 72;
const ROWS = 30;

/**
 * @typedef {object} About
 * @property {string} title
 * @property {string} lead one sentence of what it shows
 * @property {(value: number) => string} format a value with its unit
 * @property {number} spanMs how much time is shown at the most
 * @property {number} leastStep between two lines of the grid
 * @property {string} test
 */

export class LineChart {
  /** @param {About} about @param {AbortSignal} signal */
  constructor(about, signal) {
    this._about = about;
    /** @type {readonly string[]} */
    this._names = [];
    /** @type {readonly Sample[]} */
    this._samples = [];
    /** Which sample is read; `null`: the newest. @type {number | null} */
    this._read = null;
    this._axesOf = "";
    /** @type {{value: HTMLElement, path: SVGPathElement}[]} */
    this._lines = [];
    this._grid = svg("g");
    this._paths = svg("g");
    this._marks = svg("g");
    this._width = 480;
    this._svg = svg(
      "svg",
      { class: "chart-drawing", "aria-hidden": "true", height: HEIGHT },
      this._grid,
      this._paths,
      this._marks,
    );
    this._plot = h(
      "div",
      { class: "chart-plot", tabindex: 0, role: "slider", "aria-label": `${about.title}: a moment to read` },
      this._svg,
    );
    this._legend = h("ul", { class: "chart-legend" });
    this._moment = h("span", { class: "chart-moment" });
    this._table = h("div", { class: "table-frame", tabindex: 0 });
    this._details = h("details", { class: "chart-table" }, h("summary", null, "As a table"), this._table);
    this._details.addEventListener("toggle", () => this._drawTable());
    this.element = this._figure();
    this._listen(signal);
  }

  _figure() {
    const { title, lead, test } = this._about;
    const head = h("div", { class: "chart-head" }, h("h2", null, title), this._moment);
    const caption = h("figcaption", null, head, h("p", { class: "card-lead" }, lead), this._legend);
    return h("figure", { class: "card chart", test }, caption, this._plot, this._details);
  }

  /** @param {AbortSignal} signal */
  _listen(signal) {
    const observer = new ResizeObserver(([entry]) => {
      this._width = Math.max(200, Math.round(entry.contentRect.width));
      this._draw();
    });
    observer.observe(this._plot);
    signal.addEventListener("abort", () => observer.disconnect(), { once: true });
    this._plot.addEventListener("pointermove", (event) => this._point(event));
    this._plot.addEventListener("pointerleave", () => this._readAt(null));
    this._plot.addEventListener("blur", () => this._readAt(null));
    this._plot.addEventListener("keydown", (event) => this._key(event));
  }

  /** @param {readonly string[]} names of the lines @param {readonly Sample[]} samples the oldest first */
  update(names, samples) {
    const read = this._read === null ? null : this._samples[this._read]?.at;
    if (JSON.stringify(names) !== JSON.stringify(this._names)) {
      this._names = names;
      this._makeLines();
    }
    this._samples = samples;
    const again = samples.findIndex(({ at }) => at === read);
    this._read = again < 0 ? null : again;
    this._draw();
    this._drawTable();
  }

  /** A line for each name, with its place in the legend. */
  _makeLines() {
    this._lines = this._names.map((_, index) => ({
      value: h("strong"),
      path: svg("path", { class: `chart-line series-${index % 6}` }),
    }));
    const key = (/** @type {number} */ index) => {
      const drawn = svg("path", { class: `chart-line series-${index % 6}`, d: "M0 2H18" });
      return svg("svg", { class: "chart-key", viewBox: "0 0 18 4", "aria-hidden": "true" }, drawn);
    };
    const items = this._lines.map(({ value }, index) =>
      h("li", null, key(index), h("span", null, this._names[index]), value),
    );
    replace(this._legend, items);
    replace(
      this._paths,
      this._lines.map(({ path }) => path),
    );
  }

  /** @param {number | null} index */
  _readAt(index) {
    this._read = index;
    this._draw();
  }

  /** @param {PointerEvent} event */
  _point(event) {
    const { end, span } = this._scale();
    const x = event.clientX - this._plot.getBoundingClientRect().left - EDGE.left;
    const at = end - span * (1 - x / this._inner());
    let best = null;
    for (const [index, sample] of this._samples.entries()) {
      if (best === null || Math.abs(sample.at - at) < Math.abs(this._samples[best].at - at)) {
        best = index;
      }
    }
    this._readAt(best);
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const last = this._samples.length - 1;
    const now = this._read ?? last;
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now + 15, PageDown: now - 15, Home: 0, End: last }[
      event.key
    ];
    if (to !== undefined && last >= 0) {
      event.preventDefault();
      this._readAt(Math.min(Math.max(to, 0), last));
    }
  }

  _inner() {
    return this._width - EDGE.left - EDGE.right;
  }

  _scale() {
    const end = this._samples.at(-1)?.at ?? Date.now();
    const seen = end - (this._samples[0]?.at ?? end);
    const span = SPANS_MS.find((one) => one >= seen) ?? this._about.spanMs;
    const values = this._samples.flatMap(({ values }) => this._names.map((name) => values[name] ?? 0));
    const step = Math.max(niceStep(Math.max(...values, 0) / TICKS), this._about.leastStep);
    const top = step * Math.max(TICKS, Math.ceil(Math.max(...values, 0) / step));
    const x = (/** @type {number} */ at) => EDGE.left + this._inner() * (1 - (end - at) / span);
    const y = (/** @type {number} */ value) => HEIGHT - EDGE.bottom - (HEIGHT - EDGE.top - EDGE.bottom) * (value / top);
    return { end, span, step, top, x, y };
  }

  _draw() {
    const scale = this._scale();
    setMark(this._svg, "width", this._width);
    setMark(this._svg, "viewBox", `0 0 ${this._width} ${HEIGHT}`);
    const axes = JSON.stringify([this._width, scale.span, scale.step, scale.top]);
    if (axes !== this._axesOf) {
      this._axesOf = axes;
      replace(this._grid, this._axes(scale));
    }
    this._lines.forEach(({ path }, index) => setMark(path, "d", this._path(this._names[index], scale)));
    replace(this._marks, this._cursor(scale));
    this._drawLegend();
  }

  /** @param {ReturnType<LineChart["_scale"]>} scale */
  _axes({ end, span, step, top, x, y }) {
    const drawn = [];
    for (let value = 0; value <= top + step / 2; value += step) {
      const at = Math.round(y(value)) + 0.5;
      drawn.push(svg("line", { class: "chart-grid", x1: EDGE.left, x2: this._width - EDGE.right, y1: at, y2: at }));
      drawn.push(
        svg(
          "text",
          { class: "chart-text", x: EDGE.left - 8, y: at + 4, "text-anchor": "end" },
          this._about.format(value),
        ),
      );
    }
    const between = STEPS_MS.find((one) => (one / span) * this._inner() >= LABEL_WIDTH) ?? span;
    for (let ago = 0; ago <= span; ago += between) {
      const anchor = ago === 0 ? "end" : "middle";
      const attributes = { class: "chart-text", x: x(end - ago), y: HEIGHT - 5, "text-anchor": anchor };
      drawn.push(svg("text", attributes, agoWords(ago)));
    }
    return drawn;
  }

  /** @param {string} name @param {ReturnType<LineChart["_scale"]>} scale */
  _path(name, { end, span, x, y }) {
    let path = "";
    let drawing = false;
    for (const [index, { at, values }] of this._samples.entries()) {
      const value = values[name] ?? null;
      if (value === null || end - at > span) {
        drawing = false;
        continue;
      }
      const lonely = !drawing && (this._samples[index + 1]?.values[name] ?? null) === null;
      path += `${drawing ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}${lonely ? "h0.1" : ""}`;
      drawing = true;
    }
    return path;
  }

  /** @param {ReturnType<LineChart["_scale"]>} scale */
  _cursor({ x, y }) {
    const sample = this._read === null ? undefined : this._samples[this._read];
    if (sample === undefined) {
      return null;
    }
    const at = x(sample.at);
    const dots = this._names.map((name, index) => {
      const value = sample.values[name] ?? null;
      return value !== null && svg("circle", { class: `chart-dot series-${index % 6}`, cx: at, cy: y(value), r: 4 });
    });
    return [svg("line", { class: "chart-cursor", x1: at, x2: at, y1: EDGE.top, y2: HEIGHT - EDGE.bottom }), dots];
  }

  _drawLegend() {
    const index = this._read ?? this._samples.length - 1;
    const sample = this._samples[index];
    const said = this._names.map((name) => `${name} ${this._value(sample, name)}`);
    this._lines.forEach(({ value }, place) => setText(value, this._value(sample, this._names[place])));
    const time = sample === undefined ? "" : timeOfDay(sample.at);
    setText(this._moment, this._read === null ? time && `now, ${time}` : time);
    setMark(this._plot, "aria-valuemin", 0);
    setMark(this._plot, "aria-valuemax", Math.max(this._samples.length - 1, 0));
    setMark(this._plot, "aria-valuenow", Math.max(index, 0));
    setMark(this._plot, "aria-valuetext", sample === undefined ? "Nothing yet" : `${time}: ${said.join(", ")}`);
  }

  /** @param {Sample | undefined} sample @param {string} name */
  _value(sample, name) {
    const value = sample?.values[name] ?? null;
    return value === null ? "–" : this._about.format(value);
  }

  _drawTable() {
    setShown(this._table, this._details.open);
    if (!this._details.open) {
      return;
    }
    const head = ["Time", ...this._names].map((title) => h("th", { scope: "col" }, title));
    const rows = this._samples.slice(-ROWS).reverse();
    const cells = rows.map((sample) =>
      h(
        "tr",
        null,
        h("th", { scope: "row" }, timeOfDay(sample.at)),
        this._names.map((name) => h("td", null, this._value(sample, name))),
      ),
    );
    const caption = h("caption", { class: "visually-hidden" }, `${this._about.title}, the newest first`);
    replace(
      this._table,
      h("table", { class: "chart-figures" }, caption, h("thead", null, h("tr", null, head)), h("tbody", null, cells)),
    );
  }
}

/** @param {number} ms */
function agoWords(ms) {
  if (ms === 0) {
    return "now";
  }
  return ms % 60_000 === 0 ? `−${ms / 60_000} min` : `−${ms / 1000} s`;
}

/**
 * A round step that is at least `wanted`: 1, 2 or 5 times a power of ten.
 *
 * @param {number} wanted
 */
function niceStep(wanted) {
  if (wanted <= 0) {
    return 0;
  }
  const power = 10 ** Math.floor(Math.log10(wanted));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= wanted) ?? 10);
}
