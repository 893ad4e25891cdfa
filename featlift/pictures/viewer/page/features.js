// Cosine similarity from reduced features.

/** Reduced features of all cells, as vectors of length 1, cell after cell. */
class Features {
  /** values: int8, channel last; a channel's value is scale * value + low. */
  constructor(values, scale, low) {
    const channels = scale.length;
    this.channels = channels;
    this.unit = new Float32Array(values.length);
    for (let start = 0; start < values.length; start += channels) {
      let square = 0;
      for (let c = 0; c < channels; c++) {
        const value = scale[c] * values[start + c] + low[c];
        this.unit[start + c] = value;
        square += value * value;
      }
      const length = Math.max(Math.sqrt(square), 1e-8);
      for (let c = 0; c < channels; c++) this.unit[start + c] /= length;
    }
  }

  /** The cosine of every cell to one of them. */
  similarityTo(cell) {
    const { unit, channels } = this;
    const asked = unit.subarray(cell * channels, (cell + 1) * channels);
    const cosines = new Float32Array(unit.length / channels);
    for (let i = 0, start = 0; i < cosines.length; i++, start += channels) {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += asked[c] * unit[start + c];
      cosines[i] = sum;
    }
    return cosines;
  }
}

/** A map from 0 to 1 over the volume, as FeatDice scales it, with the cosines that became 0 and 1. */
function scaledMap(cosines) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of cosines) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high, values: cosines.map((value) => (value - low) / (high - low + 1e-8)) };
}
