// The picture of a slice: the scan, and over it colours of features, of similarity, of a map, or of objects.

/** Draw a slice into a canvas of one pixel a voxel. */
function paintSlice(canvas, { scan, grid, view, index, layer, map, objects, opacity, smooth }) {
  canvas.width = view.columns;
  canvas.height = view.rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(view.columns, view.rows);
  const grey = scan && view.slice(scan, index);
  for (let pixel = 0, to = 0; pixel < view.rows * view.columns; pixel++, to += 4) {
    image.data[to] = image.data[to + 1] = image.data[to + 2] = grey ? grey[pixel] : 0;
    image.data[to + 3] = 255;
  }
  if (layer === "colours") blendColours(image.data, grid.slice(map, view, index, 4, smooth), opacity);
  if (layer === "similarity") blendSimilarity(image.data, grid.slice(map, view, index, 1, smooth), opacity);
  if (layer.startsWith("map ")) blendMap(image.data, view.slice(map, index), opacity);
  if (objects) blendObjects(image.data, view.slice(objects.numbers, index), objects.colours, opacity);
  context.putImageData(image, 0, 0);
}

/** Over pixels, colours of 0 to 255, and after each what is above 128 where they are of the foreground. */
function blendColours(pixels, colours, opacity) {
  for (let to = 0; to < pixels.length; to += 4) {
    if (colours[to + 3] <= 128) continue;
    for (let part = 0; part < 3; part++) pixels[to + part] += (colours[to + part] - pixels[to + part]) * opacity;
  }
}

/** Over pixels, objects by their number in the colours of a palette; number 0 is none. */
function blendObjects(pixels, numbers, palette, opacity) {
  numbers.forEach((number, i) => {
    if (!number) return;
    for (let part = 0; part < 3; part++) {
      const to = 4 * i + part;
      pixels[to] += (palette[4 * number + part] - pixels[to]) * opacity;
    }
  });
}

const NONE = 255; // where a map has no value

/** Over pixels, a map from 0 to 254 in the colours of similarity. */
function blendMap(pixels, steps, opacity) {
  blendSimilarity(pixels, Float32Array.from(steps, (step) => (step === NONE ? 0 : step / 254)), opacity);
}

const DIMMED = 0.4; // of the scan below similarity, whose colours would be lost on white

/** Over pixels, values from 0 to 1; the scan shows where they are low. */
function blendSimilarity(pixels, values, opacity) {
  for (let i = 0, to = 0; i < values.length; i++, to += 4) {
    const colour = Math.round(values[i] * 255) * 3;
    const share = opacity * cover(values[i]);
    for (let part = 0; part < 3; part++) {
      const dim = pixels[to + part] * (1 - DIMMED * opacity);
      pixels[to + part] = dim + (SIMILARITY[colour + part] - dim) * share;
    }
  }
}
