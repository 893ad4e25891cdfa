// What is drawn over a picture: outlines, crosshair, the cell asked for, letters and a scale bar.

/** The borders between pixels of a slice whose part(pixel) differs, 0 or false beyond it, as a path in pixels of the screen. */
function outline(view, box, part) {
  const path = new Path2D();
  const { rows, columns } = view;
  const x = (column) => box.left + (column / columns) * box.width;
  const y = (row) => box.top + (row / rows) * box.height;
  for (let row = 0; row <= rows; row++) {
    let start = -1; // of a run of edges below row - 1
    for (let column = 0; column <= columns; column++) {
      const above = (row > 0 && column < columns && part((row - 1) * columns + column)) || 0;
      const below = (row < rows && column < columns && part(row * columns + column)) || 0;
      if (above !== below && start < 0) start = column;
      if (above === below && start >= 0) {
        path.moveTo(x(start), y(row));
        path.lineTo(x(column), y(row));
        start = -1;
      }
    }
  }
  for (let column = 0; column <= columns; column++) {
    let start = -1;
    for (let row = 0; row <= rows; row++) {
      const left = (column > 0 && row < rows && part(row * columns + column - 1)) || 0;
      const right = (column < columns && row < rows && part(row * columns + column)) || 0;
      if (left !== right && start < 0) start = row;
      if (left === right && start >= 0) {
        path.moveTo(x(column), y(start));
        path.lineTo(x(column), y(row));
        start = -1;
      }
    }
  }
  return path;
}

/** A line that shows on dark and light ground. */
function strokeTwice(context, path, colour, width) {
  context.lineWidth = width * 1.8;
  context.strokeStyle = "rgb(0 0 0 / 0.55)";
  context.stroke(path);
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke(path);
}

/** Lines through the position, open around it. */
function drawCrosshair(context, box, { down, right }) {
  const x = box.left + right * box.width;
  const y = box.top + down * box.height;
  const gap = 9;
  const path = new Path2D();
  for (const [x1, y1, x2, y2] of [
    [box.left, y, x - gap, y],
    [x + gap, y, box.left + box.width, y],
    [x, box.top, x, y - gap],
    [x, y + gap, x, box.top + box.height],
  ]) {
    if (x2 < x1 || y2 < y1) continue;
    path.moveTo(x1, y1);
    path.lineTo(x2, y2);
  }
  context.lineWidth = 1;
  context.strokeStyle = "rgb(255 255 255 / 0.6)";
  context.stroke(path);
}

/** The cell that similarity is asked for, as large as it is: whole on its slices, faint on others. */
function drawQuery(context, box, view, { centre, stride }, index, width) {
  const [row, column] = [view.down, view.right].map((axis) => Math.abs(stride[axis]));
  const high = Math.max((row / view.rows) * box.height, 6);
  const wide = Math.max((column / view.columns) * box.width, 6);
  const { down, right } = view.placeOf(centre);
  const cell = new Path2D();
  cell.roundRect(box.left + right * box.width - wide / 2, box.top + down * box.height - high / 2, wide, high, 3);
  const onSlice = Math.abs(index - centre[view.normal]) <= Math.max(Math.abs(stride[view.normal]) / 2, 0.5);
  context.globalAlpha = onSlice ? 1 : 0.5;
  context.setLineDash(onSlice ? [] : [3, 3]);
  strokeTwice(context, cell, "#fff", width);
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function write(context, text, x, y, align, baseline, weight = 600) {
  context.font = `${weight} 13px system-ui, sans-serif`;
  context.textAlign = align;
  context.textBaseline = baseline;
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.strokeStyle = "rgb(0 0 0 / 0.7)";
  context.strokeText(text, x, y);
  context.fillStyle = "#fff";
  context.fillText(text, x, y);
}

/** Which way the patient lies, at the edges of a tile. */
function drawLetters(context, [top, right, bottom, left], width, height) {
  write(context, top, width / 2, 6, "center", "top");
  write(context, right, width - 7, height / 2, "right", "middle");
  write(context, bottom, width / 2, height - 5, "center", "bottom");
  write(context, left, 7, height / 2, "left", "middle");
}

/** The longest of 1, 2, 5, 10, ... millimetres that is no more than a third of the width. */
function scaleLength(millimetres) {
  const power = 10 ** Math.floor(Math.log10(millimetres / 3));
  return [5, 2, 1].map((step) => step * power).find((length) => length <= millimetres / 3);
}

/** A length in millimetres, in the unit that suits it. */
function lengthText(length) {
  const [unit, size] = [["cm", 10], ["mm", 1], ["µm", 1e-3]].find(([, size]) => length >= size) ?? ["nm", 1e-6];
  return `${Math.round(length / size)} ${unit}`;
}

/** A bar at the lower left; perMillimetre in pixels. */
function drawScale(context, width, height, perMillimetre) {
  const length = scaleLength(width / perMillimetre);
  const [x, y] = [10, height - 10];
  const bar = new Path2D();
  bar.moveTo(x, y - 4);
  bar.lineTo(x, y);
  bar.lineTo(x + length * perMillimetre, y);
  bar.lineTo(x + length * perMillimetre, y - 4);
  strokeTwice(context, bar, "#fff", 1.5);
  write(context, lengthText(length), x, y - 7, "left", "bottom", 500);
}
