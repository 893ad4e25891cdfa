/** Reasons why a case is unlike the others, by case. */
const reasons = new Map();
for (const [index, reason] of data.outliers) reasons.set(index, [...(reasons.get(index) ?? []), reason]);

/** What a column says of a case, as text; empty where nothing is known. */
function labelOf(column, index) {
  const value = column.values[index];
  if (value === null) return "";
  return column.classes.length ? column.classes[value] : `${+value.toPrecision(4)}`;
}

function tilesOf(index) {
  const tiles = data.pictures[index];
  if (!tiles) return [make("div", { className: "none" }, "no picture")];
  return tiles.flatMap((source, number) => {
    if (source === null) return [];
    const image = make("img", { src: source, loading: "lazy", alt: `${data.tiles[number]} of ${data.ids[index]}` });
    return [make("figure", {}, image, make("figcaption", {}, data.tiles[number]))];
  });
}

/** What is known of a case: its pictures, labels, and what is strange about it. */
function fill(card, index, isBrief = false) {
  const labels = data.columns.flatMap((column) => {
    const text = labelOf(column, index);
    if (!text) return [];
    const dot = column.classes.length && column === data.columns[state.colour] ? [make("i", { className: `class-${column.values[index]}` })] : [];
    return [make("span", {}, ...dot, make("span", {}, `${column.name} `), text)];
  });
  card.replaceChildren(
    make("div", { className: "tiles" }, ...tilesOf(index)),
    make("b", {}, data.ids[index]),
    ...(isBrief ? [] : [make("p", {}, data.facts[index])]),
    ...(labels.length ? [make("p", { className: "labels" }, ...labels)] : []),
    ...(isBrief && reasons.has(index) ? ["unlike the others"] : reasons.get(index) ?? []).map((reason) => make("p", { className: "reason" }, reason)),
  );
  return card;
}

/** A card to press, which shows the case on the map. */
function pressable(index, isBrief) {
  const card = fill(make("button", { type: "button", className: "card" }), index, isBrief);
  card.dataset.index = index;
  card.addEventListener("click", () => {
    map.keep(index);
    if (map.has(index)) $("map").scrollIntoView({ behavior: "smooth", block: "nearest" });
  });
  return card;
}
