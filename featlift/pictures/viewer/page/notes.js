// What the page says of a case in words.

const percent = (share) => `${(100 * share).toFixed(share > 0.9995 ? 0 : 1)} %`;

/** How large the scan is. */
function sizeOf({ scanShape, affine, factors }) {
  const voxels = `${scanShape.join(" × ")} voxels`;
  if (!affine) return `${voxels}, geometry unknown`;
  const spacing = factors.map((factor, axis) => {
    const shown = Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]);
    return Number((shown / factor).toPrecision(3));
  });
  return `${voxels} of ${spacing.join(" × ")} mm`;
}

/** The voxel of the scan at one of those that are shown. */
function scanVoxel({ factors }, voxel) {
  return factors.map((factor, axis) => Math.floor(voxel[axis] * factor + (factor - 1) / 2));
}

/** What the cosine is of: the place asked for, its label, and each store with its network, layer and range. */
function askedOf(viewer) {
  const { manifest, content, state, maps } = viewer;
  const [d, h, w] = scanVoxel(content, state.query);
  const label = viewer.labelAt(state.query);
  const signed = (value) => value.toFixed(2).replace("-", "−");
  const stores = manifest.stores.map(({ name, model, mode, layer }, i) => {
    const range = `${signed(maps[i].low)} to ${signed(maps[i].high)}`;
    return `${name}: ${model}, ${mode}, layer ${layer}; ${range} is shown as 0 to 1`;
  });
  const place = `d ${d}, h ${h}, w ${w}${label ? ` (${nameOf(content, label - 1)})` : ""}`;
  return `Cosine of each cell's feature to that at ${place}. ${stores.join(". ")}.`;
}

/** What the similarity is computed from, in short. */
function sourceOf({ stores }) {
  const [{ scale, channels }] = stores;
  const kept = [...new Set(stores.map((store) => percent(store.varianceKept)))].join(" and ");
  return `Computed here, from ${scale.length} of ${channels} channels with ${kept} of the variance.`;
}

/** How everything is computed, a paragraph each. */
function notesOn({ stores, factors, maps }, manifest) {
  const notes = ["Similarity is computed in this page, from reduced features, and scaled to 0 to 1 over the volume."];
  stores.forEach(({ scale, channels, varianceKept, meanError, largestError }, i) => {
    const from = `cosines from ${scale.length} of ${channels} channels with ${percent(varianceKept)} of the variance`;
    const off = `off by ${meanError.toFixed(3)} on average, ${largestError.toFixed(2)} at most of those compared`;
    notes.push(`${manifest.stores[i].name}: ${from}; ${off}.`);
  });
  const kept = `${percent(manifest.coloursKept)} of the variance of the foreground`;
  notes.push(`PCA colours are the same for all cases and stores here: three components, with ${kept}.`);
  maps.forEach(({ low, high }, i) => {
    notes.push(`${manifest.maps[i]}: the colours of similarity, from ${low.toPrecision(3)} to ${high.toPrecision(3)}.`);
  });
  if (factors.some((factor) => factor > 1)) {
    notes.push(`The scan is shown at 1 voxel for ${factors.join(" × ")}; Dice is counted on those.`);
  }
  const reached = document.getElementById("case-0") ? "" : ", but to this machine for the next case";
  notes.push(`featlift ${manifest.version}. No request leaves this page${reached}.`);
  return notes;
}
