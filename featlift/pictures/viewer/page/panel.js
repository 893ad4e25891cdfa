// The controls beside the planes, and what they tell.

const element = (id) => document.getElementById(id);

/** A new element with text in it. */
function tag(name, text = "", attributes = {}) {
  return Object.assign(document.createElement(name), { textContent: text }, attributes);
}

/** What the i-th label of a case is called. */
const nameOf = (content, i) => content.labelNames[i] || `label ${content.labelValues[i]}`;

/** What a layer of maps or objects is called. */
const title = (layer) => (layer.startsWith("map ") ? layer.slice(4) : layer[0].toUpperCase() + layer.slice(1));

/** What outlines of a colour mean. */
function keyOf({ kind, colour }) {
  const sample = tag("i");
  sample.style.background = colour;
  return [sample, tag("span", kind)];
}

class Panel {
  constructor(viewer) {
    this.viewer = viewer;
    const { state, manifest } = viewer;
    for (const id of viewer.manifest.cases) element("case").append(tag("option", id));
    this.rows = viewer.manifest.stores.map((store, i) => this._row(store, i));
    element("scores").append(...this.rows);
    element("gradient").style.background = similarityGradient();
    for (const layer of viewer.layers.slice(3)) {
      const label = element("layers").appendChild(tag("label"));
      const input = tag("input", "", { type: "radio", name: "layer", value: layer });
      label.append(input, tag("span", title(layer)));
    }
    const on = (id, event, act) => element(id).addEventListener(event, () => act(element(id)));
    on("case", "change", (select) => viewer.open(select.selectedIndex));
    on("previous", "click", () => viewer.open(viewer.number - 1));
    on("next", "click", () => viewer.open(viewer.number + 1));
    on("theme", "click", () => this.switchTheme());
    on("help", "click", () => element("keys").showModal());
    on("opacity", "input", ({ value }) => viewer.set({ opacity: { ...state.opacity, [state.layer]: Number(value) } }));
    on("threshold", "input", ({ value }) => viewer.set({ threshold: Number(value) }));
    on("label", "change", (select) => viewer.set({ label: select.selectedIndex + 1 }));
    for (const name of ["outlines", "smooth"]) on(name, "change", ({ checked }) => viewer.set({ [name]: checked }));
    for (const radio of document.getElementsByName("layer")) {
      radio.addEventListener("change", () => viewer.set({ layer: radio.value }));
    }
  }

  /** Which case it is to be. */
  choose() {
    const { number, manifest } = this.viewer;
    document.title = `${manifest.cases[number]} · featlift`;
    element("case").selectedIndex = number;
    element("previous").disabled = number === 0;
    element("next").disabled = number === manifest.cases.length - 1;
  }

  /** What changes with the case. */
  open() {
    const { content, manifest } = this.viewer;
    document.querySelector("main").hidden = false;
    element("status").className = "";
    element("summary").textContent = sizeOf(content);
    element("label").replaceChildren(...content.labelValues.map((_, i) => tag("option", nameOf(content, i))));
    element("marked").hidden = !content.counted;
    element("marked").replaceChildren(...content.marked.flatMap(keyOf), tag("div", content.counted));
    element("label-row").hidden = !content.labels;
    element("table").hidden = !content.labels;
    element("source").textContent = sourceOf(content);
    element("notes").replaceChildren(...notesOn(content, manifest).map((note) => tag("p", note)));
  }

  /** What changes with every move. */
  update() {
    const { state, content, scores } = this.viewer;
    for (const radio of document.getElementsByName("layer")) radio.checked = radio.value === state.layer;
    element("opacity").disabled = state.layer === "scan";
    element("opacity").value = state.opacity[state.layer] ?? 0;
    const opacity = state.opacity[state.layer];
    element("opacity-value").textContent = opacity === undefined ? "" : `${Math.round(100 * opacity)} %`;
    element("outlines").checked = state.outlines;
    element("smooth").checked = state.smooth;
    element("threshold").value = state.threshold;
    element("threshold-value").textContent = state.threshold.toFixed(3).replace(/0$/, "");
    element("mark").style.left = percent(state.threshold).replace(" ", "");
    element("label").selectedIndex = state.label - 1;
    element("asked").textContent = askedOf(this.viewer);
    this.rows.forEach((row, i) => this._score(row, scores?.[i]));
    element("place").replaceChildren(...this._place().flatMap(([what, value]) => [tag("dt", what), tag("dd", value)]));
    element("hint").textContent = content.labels && state.outlines
      ? "Click: what is similar to this? White: above the threshold. Coloured: the mask."
      : "Click: what is similar to this? White: above the threshold.";
  }

  /** The row of a store in the table of Dice. */
  _row(store, i) {
    const { viewer } = this;
    const row = tag("tr");
    const button = tag("button", "…", { type: "button", title: "Take this threshold" });
    button.addEventListener("click", () => viewer.set({ threshold: viewer.scores[i].best(viewer.state.label) }));
    row.append(tag("td", store.name), tag("td", "…", { className: "score" }), tag("td"));
    row.lastChild.append(button);
    return row;
  }

  /** Fill it in; while voxels are being counted it keeps what it said, greyed. */
  _score(row, scores) {
    row.classList.toggle("counting", !scores);
    const button = row.querySelector("button");
    button.disabled = !scores;
    if (!scores) return;
    const { label, threshold } = this.viewer.state;
    const best = scores.best(label);
    row.querySelector(".score").textContent = scores.dice(label, threshold).toFixed(3);
    button.textContent = `${scores.dice(label, best).toFixed(3)}, ${best.toFixed(2)}`;
  }

  _place() {
    const { state, content, manifest } = this.viewer;
    const [d, h, w] = state.position;
    const voxel = scanVoxel(content, state.position);
    const at = (d * content.shape[1] + h) * content.shape[2] + w;
    const number = this.viewer.labelAt(state.position);
    const rows = [["voxel", `d ${voxel[0]}, h ${voxel[1]}, w ${voxel[2]}`]];
    if (content.affine) {
      const lps = content.affine.slice(0, 3).map((line) => line[0] * d + line[1] * h + line[2] * w + line[3]);
      rows.unshift(["LPS", `${lps.map((at) => at.toFixed(1)).join(", ")} mm`.replaceAll("-", "−")]);
    }
    if (content.scan) rows.push(["intensity", (content.scan[at] / 255).toFixed(2)]);
    if (content.labels) rows.push(["label", number ? nameOf(content, number - 1) : "none"]);
    manifest.maps.forEach((name, i) => {
      const value = this.viewer.mapAt(i, at);
      rows.push([name, value === null ? "none" : value.toPrecision(3).replace("-", "−")]);
    });
    content.instances.forEach(({ ids, numbers }, i) => rows.push([manifest.instances[i], ids[numbers[at]]]));
    manifest.stores.forEach((store, i) => {
      const cosine = this.viewer.cosineAt(i, state.position).toFixed(3).replace("-", "−");
      rows.push([i ? "" : "cosine", manifest.stores.length > 1 ? `${cosine} ${store.name}` : cosine]);
    });
    return rows;
  }

  /** Tell readers of the screen, once things have settled. */
  say(text) {
    clearTimeout(this.saying);
    this.saying = setTimeout(() => (element("status").textContent = text), 400);
  }

  /** Say why a case is not shown; others may be. */
  fail(error) {
    clearTimeout(this.saying);
    element("status").className = "failed";
    element("status").textContent = `This case cannot be shown: ${error.message}`;
    document.querySelector("main").hidden = true;
    document.body.setAttribute("aria-busy", "false");
  }

  switchTheme() {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  }
}
