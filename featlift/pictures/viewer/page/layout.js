// How large the tiles are: all planes and stores at one scale, as large as the window allows.

const NARROW = 760; // pixels of a window whose planes stand one below the other
const GAP = 8;
const SIDE = 320; // of the controls, beside the planes
const SMALLEST = 140;

/** Place everything anew, after the window or the case has changed. */
function arrange(viewer) {
  const root = document.documentElement;
  root.className = "";
  if (root.clientWidth < NARROW) {
    root.className = "narrow";
    arrangeBelowEachOther(viewer, root.clientWidth - 24);
    return;
  }
  const sizes = ["", "below"].map((place) => {
    root.className = place;
    return tableSizes(viewer, root.clientWidth - 24, window.innerHeight, place);
  });
  const beside = sizes[0].scale >= sizes[1].scale;
  root.className = beside ? "" : "below";
  resizeTiles(viewer, beside ? sizes[0] : sizes[1]);
}

/** A column for each plane and a row for each store. */
function tableSizes({ views, manifest }, width, height, place) {
  const columns = views.length;
  const rows = manifest.stores.length;
  const panel = document.getElementById("panel");
  const header = document.querySelector("header").offsetHeight;
  const forTiles = width - (columns - 1) * GAP - (place === "below" ? 0 : SIDE + 12);
  const below = place === "below" ? panel.offsetHeight + 12 : 0;
  const forRows = height - header - 28 - 12 - rows * GAP - below;
  const wide = views.reduce((sum, view) => sum + view.width, 0);
  const high = Math.max(...views.map((view) => view.height));
  const scale = Math.max(Math.min(forTiles / wide, forRows / rows / high), SMALLEST / high);
  const spare = Math.max(forTiles - wide * scale, 0) / columns;
  return { scale, widths: views.map((view) => view.width * scale + spare), heights: views.map(() => high * scale) };
}

function arrangeBelowEachOther(viewer, width) {
  const { views, manifest } = viewer;
  const beside = Math.min(manifest.stores.length, 2);
  const each = (width - (beside - 1) * GAP) / beside;
  const highest = 0.62 * window.innerHeight;
  const scale = Math.min(...views.map((view) => Math.min(each / view.width, highest / view.height)));
  resizeTiles(viewer, { scale, widths: views.map(() => each), heights: views.map((view) => view.height * scale) });
}

function resizeTiles(viewer, { scale, widths, heights }) {
  for (const tile of viewer.tiles) tile.resize(Math.floor(widths[tile.plane]), Math.floor(heights[tile.plane]), scale);
  viewer.planes.forEach((plane, i) => (plane.style.maxWidth = `${Math.floor(Math.max(widths[i] * 2 + GAP, 1))}px`));
}
