// Dice between a mask's labels and what of a similarity map lies above a threshold, for all thresholds at once.

const STEPS = 200; // thresholds are k / STEPS

class Scores {
  /** map: from 0 to 1, on cells; labels: on voxels, from 0 to count. */
  constructor(map, grid, labels, count) {
    // by label and threshold: voxels above it
    this.above = Array.from({ length: count + 1 }, () => new Uint32Array(STEPS + 1));
    grid.eachRow(map, (row, first) => {
      for (let i = 0; i < row.length; i++) {
        const highest = Math.ceil(row[i] * STEPS) - 1; // the last threshold that the value is above
        if (highest >= 0) this.above[labels[first + i]][Math.min(highest, STEPS)]++;
      }
    });
    for (const counts of this.above) {
      for (let k = STEPS - 1; k >= 0; k--) counts[k] += counts[k + 1];
    }
    this.predicted = new Uint32Array(STEPS + 1);
    for (const counts of this.above) counts.forEach((number, k) => (this.predicted[k] += number));
    this.size = new Uint32Array(count + 1);
    for (const label of labels) this.size[label]++;
  }

  /** 2 |P ∩ M| / (|P| + |M|), P being above the threshold. */
  dice(label, threshold) {
    const k = Math.round(threshold * STEPS);
    const total = this.predicted[k] + this.size[label];
    return total ? (2 * this.above[label][k]) / total : NaN;
  }

  /** The threshold of the highest Dice. */
  best(label) {
    let best = 0;
    for (let k = 1; k <= STEPS; k++) {
      if (this.dice(label, k / STEPS) > this.dice(label, best / STEPS)) best = k;
    }
    return best / STEPS;
  }
}
