// The controls beside the planes, and what they tell.

const element = (id) => document.getElementById(id);

/** A new element with text in it. */
function tag(name, text = "", attributes = {}) {
  return Object.assign(document.createElement(name), { textContent: text }, attributes);
}

const percent = (share) => `${(100 * share).toFixed(share > 0.9995 ? 0 : 1)} %`;

class Panel {
  constructor(viewer) {
    this.viewer = viewer;
    const { state } = viewer;
    for (const id of viewer.manifest.cases) element("case").append(tag("option", id));
    this.rows = viewer.manifest.stores.map((store, i) => this._row(store, i));
    element("scores").append(...this.rows);
    element("gradient").style.background = similarityGradient();
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
    const { content } = this.viewer;
    document.querySelector("main").hidden = false;
    element("status").className = "";
    element("summary").textContent = this._summary();
    element("label").replaceChildren(...content.labelValues.map((value) => tag("option", `label ${value}`)));
    element("label-row").hidden = !content.labels;
    element("table").hidden = !content.labels;
    element("source").textContent = this._source();
    element("notes").replaceChildren(...this._notes().map((note) => tag("p", note)));
  }

  _summary() {
    const { content } = this.viewer;
    const size = `${content.scanShape.join(" × ")} voxels`;
    if (!content.affine) return `${size}, geometry unknown`;
    const spacing = [0, 1, 2].map((axis) => spacingOf(content.affine, axis) / content.factors[axis]);
    return `${size} of ${spacing.map((length) => Number(length.toPrecision(3))).join(" × ")} mm`;
  }

  /** What the similarity is computed from, in short. */
  _source() {
    const { stores } = this.viewer.content;
    const kept = [...new Set(stores.map((store) => percent(store.varianceKept)))].join(" and ");
    return `Computed here, from ${stores[0].scale.length} of ${stores[0].channels} channels with ${kept} of the variance.`;
  }

  _notes() {
    const { content, manifest } = this.viewer;
    const notes = content.stores.map((store, i) => {
      const kept = `${store.scale.length} of ${store.channels} channels, which keep ${percent(store.varianceKept)} of the variance`;
      const off = `off by ${store.meanError.toFixed(3)} on average, ${store.largestError.toFixed(2)} at most of those compared`;
      return `${manifest.stores[i].name}: cosines from ${kept}; ${off}.`;
    });
    const kept = percent(manifest.coloursKept);
    return [
      "Similarity is computed in this page, from features that were reduced to fit in it, and scaled to 0 to 1 over the volume.",
      ...notes,
      `PCA colours are the same for all cases and stores here: three components, with ${kept} of the variance of the foreground.`,
      ...(content.factors.every((factor) => factor === 1)
        ? []
        : [`The scan is shown at 1 voxel for ${content.factors.join(" × ")}; Dice is counted on those.`]),
      `featlift ${manifest.version}. No request leaves this page${element("case-0") ? "" : ", but to this machine for the next case"}.`,
    ];
  }

  /** What changes with every move. */
  update() {
    const { state, content, scores } = this.viewer;
    for (const radio of document.getElementsByName("layer")) radio.checked = radio.value === state.layer;
    element("opacity").disabled = state.layer === "scan";
    element("opacity").value = state.opacity[state.layer] ?? 0;
    element("opacity-value").textContent = state.layer === "scan" ? "" : percent(state.opacity[state.layer]).replace(".0", "");
    element("outlines").checked = state.outlines;
    element("smooth").checked = state.smooth;
    element("threshold").value = state.threshold;
    element("threshold-value").textContent = state.threshold.toFixed(3).replace(/0$/, "");
    element("mark").style.left = percent(state.threshold).replace(" ", "");
    element("label").selectedIndex = state.label - 1;
    this.rows.forEach((row, i) => this._score(row, scores?.[i]));
    element("place").replaceChildren(...this._place().flatMap(([what, value]) => [tag("dt", what), tag("dd", value)]));
    element("hint").textContent = content.labels && state.outlines
      ? "Click a place to ask what is similar to it. White: above the threshold. Coloured: the mask."
      : "Click a place to ask what is similar to it. White: above the threshold.";
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
    const voxel = state.position.map((index, axis) => Math.floor(index * content.factors[axis] + (content.factors[axis] - 1) / 2));
    const at = (d * content.shape[1] + h) * content.shape[2] + w;
    const number = this.viewer.labelAt(state.position);
    const rows = [["voxel", `d ${voxel[0]}, h ${voxel[1]}, w ${voxel[2]}`]];
    if (content.affine) {
      const [x, y, z] = content.affine.slice(0, 3).map((line) => (line[0] * d + line[1] * h + line[2] * w + line[3]).toFixed(1));
      rows.unshift(["LPS", `${x}, ${y}, ${z} mm`.replaceAll("-", "−")]);
    }
    if (content.scan) rows.push(["intensity", (content.scan[at] / 255).toFixed(2)]);
    if (content.labels) rows.push(["label", number ? String(content.labelValues[number - 1]) : "none"]);
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
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  }
}

/** Millimetres from one voxel to the next along an axis. */
function spacingOf(affine, axis) {
  return Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]);
}
