// One plane of one store: its canvas, what is drawn on it, and what pointers and keys do there.

const SIDEWAYS = 6; // pixels that a finger goes before it drags
const MOST_OUTLINED = 60; // labels; of more, the chosen one alone

const isModified = (event) => event.ctrlKey || event.metaKey;

class Tile {
  /** place: the element that gets the canvas; viewer: whose state is shown and changed. */
  constructor(place, viewer, store, plane) {
    Object.assign(this, { viewer, store, plane });
    this.canvas = place.appendChild(document.createElement("canvas"));
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.picture = document.createElement("canvas");
    this._listen();
  }

  get view() {
    return this.viewer.views[this.plane];
  }

  get frame() {
    return this.viewer.frames[this.plane];
  }

  /** Where the whole picture lies in the canvas, or would lie, in pixels of the page. */
  get box() {
    return this.frame.box(this);
  }

  /** Give the canvas its size; scale: pixels of the page in a millimetre, unless enlarged. */
  resize(width, height, scale) {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const [across, down] = [this.view.width * scale, this.view.height * scale];
    const stroke = Math.min(Math.max(Math.max(across, down) / 360, 0.5), 1); // finer lines on small pictures
    Object.assign(this, { width, height, scale, ratio, stroke });
  }

  draw() {
    const { viewer, view, box } = this;
    const { state, content } = viewer;
    const index = state.position[view.normal];
    const { layer, smooth } = state;
    const { grid, colours } = content.stores[this.store];
    const similarity = viewer.maps[this.store];
    const overlay = content.maps[viewer.mapOf(layer)]?.values;
    const map = overlay ?? (layer === "similarity" ? similarity.values : colours);
    const opacity = state.opacity[layer];
    const objects = content.instances[viewer.manifest.instances.indexOf(layer)];
    paintSlice(this.picture, { scan: content.scan, grid, view, index, layer, map, objects, opacity, smooth });
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.width, this.height);
    context.imageSmoothingEnabled = smooth && !objects; // whose borders are sharp
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture, box.left, box.top, box.width, box.height);
    if (state.outlines) this._drawOutlines(context, index, layer === "similarity" && similarity.values);
    drawCrosshair(context, box, view.placeOf(state.position));
    if (layer === "similarity") this._drawQuery(context, grid, index);
    if (view.letters) drawLetters(context, view.letters, this.width, this.height);
    if (content.affine) drawScale(context, this.width, this.height, this.scale * this.frame.zoom);
    this.canvas.setAttribute("aria-label", this._described(index));
  }

  _drawQuery(context, grid, index) {
    const asked = { centre: grid.centre(grid.nearest(this.viewer.state.query)), stride: grid.stride };
    drawQuery(context, this.box, this.view, asked, index, 2 * Math.max(this.stroke, 0.7));
  }

  /** Of every label, the chosen one bolder, of objects split or merged, and of what lies above the threshold. */
  _drawOutlines(context, index, map) {
    const { view, box, viewer } = this;
    const { state, content } = viewer;
    if (content.labels) {
      const labels = view.slice(content.labels, index);
      for (const number of new Set(labels)) {
        const chosen = number === state.label;
        if (number === 0 || (!chosen && content.labelValues.length > MOST_OUTLINED)) continue;
        context.globalAlpha = chosen ? 1 : 0.65;
        const path = outline(view, box, (pixel) => labels[pixel] === number);
        if (chosen) strokeTwice(context, path, labelColour(number), 2 * this.stroke);
        else {
          context.lineWidth = this.stroke;
          context.strokeStyle = labelColour(number);
          context.stroke(path);
        }
      }
      context.globalAlpha = 1;
    }
    for (const { instances, numbers, colour, width } of content.marked) {
      const objects = view.slice(content.instances[instances].numbers, index);
      const path = outline(view, box, (pixel) => (numbers.has(objects[pixel]) ? objects[pixel] : 0));
      strokeTwice(context, path, colour, 1.4 * width * this.stroke);
    }
    if (map) {
      const values = content.stores[this.store].grid.slice(map, view, index);
      strokeTwice(context, outline(view, box, (pixel) => values[pixel] > state.threshold), "#fff", 1.2 * this.stroke);
    }
  }

  _described(index) {
    const { view, viewer } = this;
    const [down, right] = [view.down, view.right].map((axis) => `${"DHW"[axis]} ${viewer.state.position[axis]}`);
    const name = `${viewer.manifest.stores[this.store].name}, ${view.title}`;
    const { zoom } = this.frame;
    const enlarged = zoom > 1 ? `, enlarged ${zoom.toFixed(1)} times` : "";
    return `${name}: slice ${index + 1} of ${view.slices}, crosshair at ${down}, ${right}${enlarged}`;
  }

  /** The place of the picture under a pointer, from 0 to 1. */
  _placeUnder(event) {
    const { box } = this;
    const canvas = this.canvas.getBoundingClientRect();
    const down = (event.clientY - canvas.top - box.top) / box.height;
    return { down, right: (event.clientX - canvas.left - box.left) / box.width };
  }

  /** The voxel under a pointer. */
  _voxelUnder(event) {
    const { down, right } = this._placeUnder(event);
    return this.view.voxelAt(down, right, this.viewer.state.position);
  }

  _listen() {
    const { canvas, viewer } = this;
    const ask = (event) => viewer.ask(this._voxelUnder(event), !event.shiftKey);
    let pressed = null; // where the pointer went down
    let panned = null; // where the pointer was last, while it moves the picture
    let dragging = false; // a finger may be about to scroll the page: it asks when it goes sideways or is lifted
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      if (isModified(event)) {
        panned = event;
        canvas.setPointerCapture(event.pointerId);
        return;
      }
      pressed = event;
      dragging = event.pointerType !== "touch";
      if (!dragging) return;
      canvas.setPointerCapture(event.pointerId);
      ask(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (panned) {
        this.frame.move((event.clientY - panned.clientY) / this.box.height,
                        (event.clientX - panned.clientX) / this.box.width);
        panned = event;
        viewer.draw();
      }
      if (!pressed) return;
      const [right, down] = [event.clientX - pressed.clientX, event.clientY - pressed.clientY].map(Math.abs);
      dragging ||= right > SIDEWAYS && right > down;
      if (dragging) ask(event);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (pressed && !dragging) ask(event);
      pressed = panned = null;
    });
    canvas.addEventListener("pointercancel", () => (pressed = panned = null));
    canvas.addEventListener("dblclick", () => viewer.enlarge(this.plane, 0));
    canvas.addEventListener("focus", () => (viewer.plane = this.plane));
    let turned = 0; // trackpads send many small turns
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const turn = event.deltaMode === 0 ? event.deltaY / 40 : event.deltaY;
      if (isModified(event)) { // as two fingers on a trackpad that are spread
        viewer.enlarge(this.plane, 1.08 ** -turn, this._placeUnder(event));
        return;
      }
      turned += turn;
      const steps = Math.trunc(turned);
      turned -= steps;
      viewer.step(this.view.normal, -steps);
    }, { passive: false });
  }
}
