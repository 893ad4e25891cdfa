// One of the three planes: which axes of the volume it shows, which way round, and how large.

class View {
  /** given: what the page says of the plane; voxels: of the volume that is shown. */
  constructor(given, voxels) {
    Object.assign(this, given);
    [this.flipDown, this.flipRight] = this.flips;
    this.title = this.name === this.plane ? this.plane : `${this.plane} ${this.name}`;
    this.rows = voxels[this.down];
    this.columns = voxels[this.right];
    this.slices = voxels[this.normal];
    this.steps = [voxels[1] * voxels[2], voxels[2], 1];
    this.height = this.rows * this.spacing[0]; // in millimetres, or voxels where those are unknown
    this.width = this.columns * this.spacing[1];
  }

  /** The index in the volume of a row that is shown, and the other way round. */
  voxelDown(row) {
    return this.flipDown ? this.rows - 1 - row : row;
  }

  voxelRight(column) {
    return this.flipRight ? this.columns - 1 - column : column;
  }

  /** The voxel at a place of the picture, from 0 to 1 down and to the right. */
  voxelAt(down, right, position) {
    const within = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
    const voxel = [...position];
    voxel[this.down] = this.voxelDown(within(down, this.rows));
    voxel[this.right] = this.voxelRight(within(right, this.columns));
    return voxel;
  }

  /** Where the middle of a voxel is in the picture, from 0 to 1 down and to the right. */
  placeOf(voxel) {
    return {
      down: (this.voxelDown(voxel[this.down]) + 0.5) / this.rows,
      right: (this.voxelRight(voxel[this.right]) + 0.5) / this.columns,
    };
  }

  /** The values of a volume on a slice, row by row as it is shown. */
  slice(volume, index) {
    const values = new volume.constructor(this.rows * this.columns);
    for (let row = 0, into = 0; row < this.rows; row++) {
      const start = index * this.steps[this.normal] + this.voxelDown(row) * this.steps[this.down];
      for (let column = 0; column < this.columns; column++) {
        values[into++] = volume[start + this.voxelRight(column) * this.steps[this.right]];
      }
    }
    return values;
  }
}
