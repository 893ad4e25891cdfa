// The viewer: what is shown and asked for, the same for all planes and stores.

class Viewer {
  constructor(manifest) {
    this.manifest = manifest;
    this.plane = 0; // that keys move in
    this.layers = ["scan", "colours", "similarity", ...manifest.maps.map((name) => `map ${name}`), ...manifest.instances];
    this.state = {
      position: [0, 0, 0],
      query: [0, 0, 0], // voxel in whose cell similarity is asked for
      layer: "similarity",
      opacity: Object.fromEntries(this.layers.slice(1).map((layer) => [layer, 0.75])),
      threshold: 0.9,
      label: 0, // the chosen one, by its number from 1
      outlines: true,
      smooth: true,
    };
    this.panel = new Panel(this);
    this.tiles = [];
    window.addEventListener("resize", () => this.content && (arrange(this), this.draw()));
    document.addEventListener("keydown", (event) => pressed(this, event));
  }

  /** Show a case. */
  async open(number) {
    if (number < 0 || number >= this.manifest.cases.length) return;
    const asked = (this.asked = Symbol(number)); // of several quick choices the last one counts
    document.body.setAttribute("aria-busy", "true");
    this.number = number;
    this.panel.choose();
    let content;
    try {
      content = await loadCase(number);
    } catch (error) {
      if (this.asked === asked) this.panel.fail(error);
      return;
    }
    if (this.asked !== asked) return;
    this.content = content;
    this.views = this.content.views.map((view) => new View(view, this.content.shape));
    if (!this.tiles.length) this._build();
    this.planes.forEach((plane, i) => this._label(plane, this.views[i]));
    this.frames = this.views.map(() => new Frame());
    const { voxel, label } = opening(this.content);
    Object.assign(this.state, { position: voxel, label });
    this.panel.open();
    this._ask(voxel);
    this.isOpening = true;
    this.panel.update();
    arrange(this);
    this.draw();
    document.body.setAttribute("aria-busy", "false");
  }

  /** A column for each plane: its slider, and a tile for each store. */
  _build() {
    this.planes = this.views.map((view, plane) => {
      const section = element("planes").appendChild(tag("section", "", { className: "plane" }));
      const label = section.appendChild(tag("label"));
      const slider = tag("input", "", { type: "range", min: 0 });
      slider.addEventListener("input", () => this.go(this.views[plane].normal, Number(slider.value)));
      label.append(tag("b"), slider, tag("output"));
      const tiles = section.appendChild(tag("div", "", { className: "tiles" }));
      this.manifest.stores.forEach((store, i) => {
        const place = tiles.appendChild(tag("div", "", { className: "tile" }));
        place.append(tag("span", store.name));
        this.tiles.push(new Tile(place, this, i, plane));
      });
      return section;
    });
  }

  _label(section, view) {
    section.querySelector("b").textContent = view.title;
    const slider = section.querySelector("input");
    slider.max = view.slices - 1;
    slider.setAttribute("aria-label", `Slice of ${view.title}`);
  }

  /** Change what is shown. */
  set(change) {
    Object.assign(this.state, change);
    if ("threshold" in change) this.isOpening = false;
    this.draw();
  }

  /** Go to a voxel, and ask what is similar to it. */
  ask(voxel, isQuery = true) {
    this.state.position = voxel;
    if (isQuery) {
      this.state.layer = "similarity";
      this._ask(voxel);
      this.state.label = this.labelAt(voxel) || this.state.label;
    }
    this.draw();
  }

  /** Number of the map that a layer shows, -1 for others. */
  mapOf(layer) {
    return this.manifest.maps.findIndex((name) => layer === `map ${name}`);
  }

  /** The value of a map at a voxel of the volume; null where it has none. */
  mapAt(number, at) {
    const { low, high, values } = this.content.maps[number];
    return values[at] === NONE ? null : low + ((high - low) * values[at]) / 254;
  }

  /** Number of the label at a voxel, 0 for none. */
  labelAt([d, h, w]) {
    const { labels, shape } = this.content;
    return labels ? labels[(d * shape[1] + h) * shape[2] + w] : 0;
  }

  _ask(voxel) {
    this.state.query = voxel;
    this.isOpening = false;
    this.maps = this.content.stores.map(({ grid, features }) => scaledMap(features.similarityTo(grid.nearest(voxel))));
    clearTimeout(this.counting);
    this.scores = null;
    if (this.content.labels) this.counting = setTimeout(() => this._count(), 60); // not while a pointer is on its way
  }

  _count() {
    const { labels, labelValues, stores } = this.content;
    this.scores = stores.map(({ grid }, i) => new Scores(this.maps[i].values, grid, labels, labelValues.length));
    if (this.isOpening) this.state.threshold = this.scores[0].best(this.state.label);
    this.draw();
  }

  /** The cosine between a voxel and the place asked for. */
  cosineAt(store, voxel) {
    const { low, high, values } = this.maps[store];
    return low + (high - low) * this.content.stores[store].grid.valueAt(values, voxel);
  }

  /** Go to an index along an axis. */
  go(axis, index) {
    const last = this.content.shape[axis] - 1;
    this.state.position = this.state.position.with(axis, Math.min(Math.max(index, 0), last));
    this.views.forEach((view, plane) => this.frames[plane].follow(view.placeOf(this.state.position)));
    this.draw();
  }

  /** Enlarge a plane around a place of it, by default the crosshair; a factor of 0 shows all of it. */
  enlarge(plane, factor, place = this.views[plane].placeOf(this.state.position)) {
    if (factor) this.frames[plane].enlarge(factor, place);
    else this.frames[plane].reset();
    this.draw();
  }

  step(axis, by) {
    if (by) this.go(axis, this.state.position[axis] + by);
  }

  /** Show the state, before the next frame. */
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      for (const tile of this.tiles) tile.draw();
      this.views.forEach((view, plane) => {
        const index = this.state.position[view.normal];
        this.planes[plane].querySelector("input").value = index;
        this.planes[plane].querySelector("output").textContent = `${index + 1} / ${view.slices}`;
      });
      this.panel.update();
      const { position } = this.state;
      const cosines = this.manifest.stores.map(({ name }, i) => `${name} ${this.cosineAt(i, position).toFixed(2)}`);
      this.panel.say(`voxel ${position.join(", ")}; cosine ${cosines.join(", ")}`);
    });
  }
}

window.viewer = new Viewer(JSON.parse(element("manifest").textContent)); // for scripts, and for those who are curious
await window.viewer.open(0);
