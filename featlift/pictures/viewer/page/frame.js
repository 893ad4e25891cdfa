// What of a plane its tiles show: all of it, or a piece, enlarged.

const MOST_ENLARGED = 16;

class Frame {
  constructor() {
    this.reset();
  }

  reset() {
    Object.assign(this, { zoom: 1, down: 0.5, right: 0.5 }); // the place in the middle, from 0 to 1
  }

  /** Where the picture lies in a tile, in pixels; scale: of them in a millimetre where nothing is enlarged. */
  box({ view, width, height, scale }) {
    const across = view.width * scale * this.zoom;
    const high = view.height * scale * this.zoom;
    return { left: width / 2 - this.right * across, top: height / 2 - this.down * high, width: across, height: high };
  }

  /** Enlarge around a place, which stays where it is on the screen. */
  enlarge(factor, { down, right }) {
    const before = this.zoom;
    this.zoom = Math.min(Math.max(before * factor, 1), MOST_ENLARGED);
    const kept = before / this.zoom;
    this._centre(down - (down - this.down) * kept, right - (right - this.right) * kept);
  }

  /** Move the picture by a part of its height and width. */
  move(down, right) {
    this._centre(this.down - down, this.right - right);
  }

  /** Move as little as shows a place. */
  follow({ down, right }) {
    const reach = 0.45 / this.zoom;
    const within = (middle, place) => Math.min(Math.max(middle, place - reach), place + reach);
    this._centre(within(this.down, down), within(this.right, right));
  }

  _centre(...place) {
    const half = 0.5 / this.zoom;
    [this.down, this.right] = place.map((at) => Math.min(Math.max(at, half), 1 - half));
  }
}
