/** The map: a point for each case, found by pointer, finger or arrow keys. */
const map = {
  canvas: document.querySelector("#plot canvas"),
  tip: $("tip"),
  colours: [],
  points: [], // {index, x, y} in CSS pixels
  shown: null, // the point under the pointer or the arrow keys
  kept: null, // the one that was pressed
  zoom: 1,
  centre: [0, 0], // what is in the middle, in pixels of the whole map

  get current() { return data.maps[state.map]; },
  get column() { return data.columns[state.colour]; },
  has(index) { return this.points.some((point) => point.index === index); },

  readColours() {
    const probe = make("i");
    document.body.append(probe);
    const read = (name) => ((probe.className = name), getComputedStyle(probe).color);
    this.colours = [...Array(12).keys()].map((number) => read(`class-${number}`));
    this.none = read("class-none");
    probe.remove();
    const style = getComputedStyle(document.body);
    this.ink = style.color;
    this.ground = style.backgroundColor;
    const known = this.column && !this.column.classes.length ? this.column.values.filter((value) => value !== null) : [];
    this.range = [Math.min(...known), Math.max(...known)];
  },

  colourOf(index) {
    const value = this.column?.values[index] ?? null;
    if (value === null) return this.none;
    if (this.column.classes.length) return this.colours[value];
    const [low, high] = this.range;
    const place = high > low ? (value - low) / (high - low) : 0.5;
    const stops = [[53, 103, 201], [162, 79, 176], [226, 87, 43]];
    const [from, to] = place < 0.5 ? [stops[0], stops[1]] : [stops[1], stops[2]];
    const share = place < 0.5 ? 2 * place : 2 * place - 1;
    return `rgb(${from.map((part, number) => Math.round(part + share * (to[number] - part))).join(" ")})`;
  },

  isHidden(index) {
    const value = this.column?.values[index] ?? null;
    return Boolean(this.column?.classes.length) && state.hidden.has(value ?? "none");
  },

  /** Where each point lies: both axes in one unit, so that distances can be compared. */
  place() {
    const { x, y, cases } = this.current;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [left, right, low, high] = [Math.min(...x), Math.max(...x), Math.min(...y), Math.max(...y)];
    const margin = 26;
    const scale = Math.min((width - 2 * margin) / (right - left || 1), (height - 2 * margin) / (high - low || 1));
    const [across, down] = this.centre;
    this.points = cases.map((index, row) => ({
      index,
      x: width / 2 + this.zoom * (scale * (x[row] - (left + right) / 2) - across),
      y: height / 2 + this.zoom * (scale * ((low + high) / 2 - y[row]) - down),
    }));
  },

  /** Bring a place of the canvas to its middle, larger; without one show the whole map. */
  enlarge(x, y) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [across, down] = this.centre;
    this.centre = x === undefined ? [0, 0] : [across + (x - width / 2) / this.zoom, down + (y - height / 2) / this.zoom];
    this.zoom = x === undefined ? 1 : this.zoom * 2.5;
    $("whole").hidden = this.zoom === 1;
    this.tell();
  },

  draw() {
    if (!this.current) return;
    const { canvas, points } = this;
    const ratio = devicePixelRatio;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    this.place();
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const radius = points.length > 5000 ? 2.2 : points.length > 800 ? 3.4 : 5;
    const circle = (point, size) => { context.beginPath(); context.arc(point.x, point.y, size, 0, 2 * Math.PI); };
    for (const point of this.points) {
      const isHidden = this.isHidden(point.index);
      circle(point, radius);
      context.globalAlpha = isHidden ? 0.1 : 0.85;
      context.fillStyle = this.colourOf(point.index);
      context.fill();
      context.globalAlpha = isHidden ? 0.1 : 1;
      context.lineWidth = 1;
      context.strokeStyle = this.ground;
      context.stroke();
      if (reasons.has(point.index) && !isHidden) {
        circle(point, radius + 3.5);
        context.lineWidth = 1.25;
        context.strokeStyle = this.ink;
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    const active = this.find(this.shown ?? this.kept);
    if (active) {
      circle(active, radius + 2);
      context.fillStyle = this.colourOf(active.index);
      context.fill();
      context.lineWidth = 2.5;
      context.strokeStyle = this.ink;
      context.stroke();
    }
  },

  find(index) { return index === null ? undefined : this.points.find((point) => point.index === index); },

  nearest(x, y, within = Infinity) {
    let best = null;
    for (const point of this.points) {
      const distance = Math.hypot(point.x - x, point.y - y);
      if (distance < within && !this.isHidden(point.index)) [best, within] = [point.index, distance];
    }
    return best;
  },

  /** The next point to one side: near, and rather straight ahead. */
  beside(index, right, down) {
    const from = this.find(index);
    let best = index;
    let least = Infinity;
    for (const point of this.points) {
      const ahead = (point.x - from.x) * right + (point.y - from.y) * down;
      const aside = Math.abs((point.x - from.x) * down) + Math.abs((point.y - from.y) * right);
      if (ahead > 0.01 && ahead + 2 * aside < least && !this.isHidden(point.index)) [best, least] = [point.index, ahead + 2 * aside];
    }
    return best;
  },

  show(index) {
    if (index === this.shown) return;
    this.shown = index;
    this.tell();
  },

  keep(index) {
    this.kept = index;
    this.shown = null;
    this.tell();
  },

  /** The card of the case, beside its point where there is room. */
  tell() {
    this.draw();
    const index = this.shown ?? this.kept;
    for (const card of document.querySelectorAll(".cards .chosen")) card.classList.remove("chosen");
    for (const card of document.querySelectorAll(`.cards [data-index="${this.kept}"]`)) card.classList.add("chosen");
    const point = this.find(index);
    this.tip.hidden = !point;
    if (!point) return;
    fill(this.tip, index);
    $("status").textContent = `${data.ids[index]}. ${data.columns.map((column) => `${column.name} ${labelOf(column, index)}`).join(", ")}`;
    this.tip.classList.toggle("kept", index === this.kept);
    if (getComputedStyle(this.tip).position === "static") return; // on a telephone it stands below the map
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [wide, high] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const left = point.x + 18 + wide > width ? point.x - 18 - wide : point.x + 18;
    this.tip.style.left = `${Math.max(0, Math.min(left, width - wide))}px`;
    this.tip.style.top = `${Math.max(0, Math.min(point.y - high / 2, height - high))}px`;
  },
};

const REACH = 24; // pixels from a point at which it is found
map.canvas.addEventListener("pointermove", (event) => {
  if (event.pointerType !== "touch") map.show(map.nearest(event.offsetX, event.offsetY, REACH));
});
map.canvas.addEventListener("pointerleave", () => map.show(null));
map.canvas.addEventListener("click", (event) => {
  map.keep(map.nearest(event.offsetX, event.offsetY, REACH));
  map.tip.scrollIntoView({ behavior: "smooth", block: "nearest" });
});
map.canvas.addEventListener("keydown", (event) => {
  const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  const from = map.shown ?? map.kept ?? map.nearest(map.canvas.clientWidth / 2, map.canvas.clientHeight / 2);
  if (event.key in ways && from !== null) map.show(map.beside(from, ...ways[event.key]));
  else if (event.key === "Enter" && map.shown !== null) map.keep(map.shown);
  else if (event.key === "Escape") map.keep(null);
  else if (event.key === "+" && from !== null) map.enlarge(map.find(from).x, map.find(from).y);
  else if (event.key === "-") map.enlarge();
  else return;
  event.preventDefault();
});
map.canvas.addEventListener("dblclick", (event) => map.enlarge(event.offsetX, event.offsetY));
$("whole").addEventListener("click", () => map.enlarge());
map.canvas.addEventListener("blur", () => map.show(null));
new ResizeObserver(() => map.tell()).observe(map.canvas);
