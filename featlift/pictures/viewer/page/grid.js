// Feature cells among the voxels that are shown: cell i of an axis is centred on voxel offset + stride * i.

class Grid {
  constructor(voxels, cells, stride, offset) {
    Object.assign(this, { voxels, cells, stride, offset });
    this.steps = [cells[1] * cells[2], cells[2], 1];
    this.axes = [0, 1, 2].map((axis) => this._between(axis));
  }

  /** For every voxel of an axis the cell before it and how far it is on the way to the next, 0 to 1. */
  _between(axis) {
    const count = this.voxels[axis];
    const last = this.cells[axis] - 1;
    const before = new Int32Array(count);
    const share = new Float32Array(count);
    for (let voxel = 0; voxel < count; voxel++) {
      const at = Math.min(Math.max((voxel - this.offset[axis]) / this.stride[axis], 0), last);
      before[voxel] = Math.min(Math.floor(at), Math.max(last - 1, 0));
      share[voxel] = at - before[voxel];
    }
    return { before, share, next: last > 0 ? this.steps[axis] : 0 };
  }

  /** Number of the cell whose centre is nearest to a voxel; of two, the later one. */
  nearest(voxel) {
    return [0, 1, 2].reduce((cell, axis) => {
      const at = Math.floor((voxel[axis] - this.offset[axis]) / this.stride[axis] + 0.5);
      return cell + this.steps[axis] * Math.min(Math.max(at, 0), this.cells[axis] - 1);
    }, 0);
  }

  /** Where a cell's centre is among the voxels. */
  centre(cell) {
    const index = [0, 1, 2].map((axis) => Math.floor(cell / this.steps[axis]) % this.cells[axis]);
    return index.map((at, axis) => this.offset[axis] + this.stride[axis] * at);
  }

  /** The voxel in which a cell's centre lies, or the nearest one of the volume. */
  voxelOf(cell) {
    return this.centre(cell).map((at, axis) => Math.min(Math.max(Math.round(at), 0), this.voxels[axis] - 1));
  }

  /** A cell and those beside it, as far as there are any. */
  around(cell) {
    const beside = [0, 1, 2].flatMap((axis) => {
      const at = Math.floor(cell / this.steps[axis]) % this.cells[axis];
      return [...(at ? [cell - this.steps[axis]] : []), ...(at < this.cells[axis] - 1 ? [cell + this.steps[axis]] : [])];
    });
    return [cell, ...beside];
  }

  /** Where along an axis a voxel takes its value from: between two cells, or from the nearer one. */
  _at(axis, voxel, smooth) {
    const { before, share, next } = this.axes[axis];
    const weight = smooth ? share[voxel] : Math.floor(share[voxel] + 0.5);
    return { start: before[voxel] * this.steps[axis], next, weight };
  }

  /**
   * A map at the voxels of a slice, row by row as it is shown: trilinear, or of the nearest cells.
   * parts: numbers a cell has, such as 4 of a colour.
   */
  slice(map, view, index, parts = 1, smooth = true) {
    const { rows, columns } = view;
    const normal = this._at(view.normal, index, smooth);
    const across = [];
    for (let column = 0; column < columns; column++) {
      across.push(this._at(view.right, view.voxelRight(column), smooth));
    }
    const values = new Float32Array(rows * columns * parts);
    const cells = this.cells[view.right];
    const line = new Float32Array(cells * parts); // along a row, between cells before and behind, above and below
    for (let row = 0, into = 0; row < rows; row++) {
      const down = this._at(view.down, view.voxelDown(row), smooth);
      const corner = normal.start + down.start;
      for (let cell = 0; cell < cells; cell++) {
        const base = corner + cell * this.steps[view.right];
        for (let part = 0; part < parts; part++) {
          const at = (offset) => map[(base + offset) * parts + part];
          const above = at(0) + (at(normal.next) - at(0)) * normal.weight;
          const below = at(down.next) + (at(down.next + normal.next) - at(down.next)) * normal.weight;
          line[cell * parts + part] = above + (below - above) * down.weight;
        }
      }
      for (let column = 0; column < columns; column++) {
        const { start, next, weight } = across[column];
        const first = (start / this.steps[view.right]) * parts;
        const second = first + (next ? parts : 0);
        for (let part = 0; part < parts; part++) {
          values[into++] = line[first + part] + (line[second + part] - line[first + part]) * weight;
        }
      }
    }
    return values;
  }

  /** A map at one voxel. */
  valueAt(map, voxel) {
    const [d, h, w] = voxel.map((index, axis) => this._at(axis, index, true));
    let value = 0;
    for (const [i, u] of [[0, 1 - d.weight], [d.next, d.weight]]) {
      for (const [j, v] of [[0, 1 - h.weight], [h.next, h.weight]]) {
        for (const [k, t] of [[0, 1 - w.weight], [w.next, w.weight]]) {
          value += u * v * t * map[d.start + i + h.start + j + w.start + k];
        }
      }
    }
    return value;
  }

  /** Every voxel's value of a map, one row along w after the other: visit(row of values, number of its first voxel). */
  eachRow(map, visit) {
    const [depth, height, width] = this.voxels;
    const { before, share, next } = this.axes[2];
    const cells = this.cells[2];
    const line = new Float32Array(cells);
    const row = new Float32Array(width);
    for (let d = 0; d < depth; d++) {
      const behind = this._at(0, d, true);
      for (let h = 0; h < height; h++) {
        const down = this._at(1, h, true);
        for (let cell = 0, at = behind.start + down.start; cell < cells; cell++, at++) {
          const above = map[at] + (map[at + behind.next] - map[at]) * behind.weight;
          const other = at + down.next;
          const below = map[other] + (map[other + behind.next] - map[other]) * behind.weight;
          line[cell] = above + (below - above) * down.weight;
        }
        for (let w = 0; w < width; w++) {
          const cell = before[w];
          row[w] = line[cell] + (line[cell + next] - line[cell]) * share[w];
        }
        visit(row, (d * height + h) * width);
      }
    }
  }
}
