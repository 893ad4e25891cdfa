// Where a case opens: at the label that its features outline best, or at the most distinctive place of the foreground.

const MOST_TRIED = 12; // labels, the largest ones

/** The voxel that is asked for first, and the number of its label, 0 for none. */
function opening({ labels, labelValues, shape, stores: [{ grid, features, colours }] }) {
  if (!labels) return { voxel: mostDistinctive(grid, features, colours), label: 0 };
  const label = bestOutlined(labels, labelValues.length, grid, features);
  return { voxel: middleOf(labels, shape, label), label };
}

/** The label of which the similarity to its middle gives the highest Dice, counted on cells. */
function bestOutlined(labels, count, grid, features) {
  const [, height, width] = grid.voxels;
  const total = grid.cells.reduce((product, cells) => product * cells);
  const held = Uint8Array.from({ length: total }, (_, cell) => {
    const [d, h, w] = grid.voxelOf(cell);
    return labels[(d * height + h) * width + w];
  });
  const sizes = new Uint32Array(count + 1);
  for (const number of held) sizes[number]++;
  const tried = [...sizes.keys()].filter((number) => number && sizes[number]).sort((a, b) => sizes[b] - sizes[a]);
  const cells = new Grid(grid.cells, grid.cells, [1, 1, 1], [0, 0, 0]);
  let best = labels.find((number) => number); // where no label has a cell
  let highest = -1;
  for (const number of tried.slice(0, MOST_TRIED)) {
    const asked = cells.nearest(middleOf(held, grid.cells, number));
    const scores = new Scores(scaledMap(features.similarityTo(asked)).values, cells, held, count);
    const dice = scores.dice(number, scores.best(number));
    if (dice > highest) [best, highest] = [number, dice];
  }
  return best;
}

/** The voxel of a label that is nearest to the middle of all of them. */
function middleOf(labels, [, height, width], number) {
  const sum = [0, 0, 0];
  let count = 0;
  const each = (visit) => {
    for (let at = labels.indexOf(number); at >= 0; at = labels.indexOf(number, at + 1)) {
      visit(Math.floor(at / (height * width)), Math.floor(at / width) % height, at % width);
    }
  };
  each((d, h, w) => {
    count++;
    sum[0] += d;
    sum[1] += h;
    sum[2] += w;
  });
  let nearest = null;
  let shortest = Infinity;
  each((d, h, w) => {
    const distance = (d - sum[0] / count) ** 2 + (h - sum[1] / count) ** 2 + (w - sum[2] / count) ** 2;
    if (distance < shortest) [nearest, shortest] = [[d, h, w], distance];
  });
  return nearest;
}

/** The voxel of the cell that, with those around it, is least like the mean of the foreground. */
function mostDistinctive(grid, { unit, channels }, colours) {
  const total = unit.length / channels;
  const isInside = (cell) => colours[4 * cell + 3] > 128;
  const mean = new Float32Array(channels);
  for (let cell = 0; cell < total; cell++) {
    if (isInside(cell)) for (let c = 0; c < channels; c++) mean[c] += unit[cell * channels + c];
  }
  const likeness = Float32Array.from({ length: total }, (_, cell) =>
    mean.reduce((sum, value, c) => sum + value * unit[cell * channels + c], 0));
  let best = grid.nearest(grid.voxels.map((size) => size / 2)); // where the foreground has no inside
  let lowest = Infinity;
  const most = 1 + grid.cells.reduce((sum, cells) => sum + Math.min(cells - 1, 2), 0); // fewer at the border
  for (let cell = 0; cell < total; cell++) {
    const around = grid.around(cell);
    if (around.length < most || !around.every(isInside)) continue;
    const value = around.reduce((sum, other) => sum + likeness[other], 0) / around.length;
    if (value < lowest) [best, lowest] = [cell, value];
  }
  return grid.voxelOf(best);
}
