/** All cases as cards, some at a time. */
const gallery = {
  size: 60,
  count: 60,

  /** Those that match what was typed; without that, those that have pictures, or all if none has. */
  chosen() {
    const text = $("find").value.trim().toLowerCase();
    const all = [...data.ids.keys()];
    const pictured = all.filter((index) => index in data.pictures);
    if (!text) return pictured.length ? pictured : all;
    const says = (index) => [data.ids[index], ...data.columns.map((column) => labelOf(column, index))];
    return all.filter((index) => says(index).some((word) => word.toLowerCase().includes(text)));
  },

  ordered(indices) {
    const order = $("order").value;
    if (order === "id") return indices;
    const strange = new Map(data.outliers.map(([index], place) => [index, place]).reverse());
    const column = data.columns[order];
    const rank = (index) => (order === "strange" ? strange.get(index) : column.values[index]) ?? Infinity;
    return indices.sort((a, b) => { const [one, two] = [rank(a), rank(b)]; return one === two ? a - b : one - two; });
  },

  draw() {
    const indices = this.ordered(this.chosen());
    const shown = indices.slice(0, this.count);
    $("gallery").replaceChildren(...shown.map((index) => pressable(index, true)));
    $("found").textContent = `${indices.length.toLocaleString("en")} of ${data.ids.length.toLocaleString("en")}`;
    $("more").hidden = shown.length === indices.length;
    $("more").textContent = `Show ${Math.min(this.size, indices.length - shown.length)} more`;
  },

  restart() {
    this.count = this.size;
    this.draw();
  },
};

const strange = {
  count: 12,
  draw() {
    const indices = [...reasons.keys()];
    $("strange").replaceChildren(...indices.slice(0, this.count).map((index) => pressable(index, false)));
    if (!indices.length) $("strange").replaceWith(make("p", {}, "No case stands out."));
    $("more-strange").hidden = indices.length <= this.count;
    $("more-strange").textContent = `Show all ${indices.length}`;
    const isCut = data.strange > indices.length;
    $("strange-count").textContent = isCut ? `the strangest ${indices.length} of ${data.strange.toLocaleString("en")}` : "";
  },
};

$("find").addEventListener("input", () => gallery.restart());
$("order").addEventListener("change", () => gallery.restart());
$("more").addEventListener("click", () => { gallery.count += gallery.size; gallery.draw(); });
$("more-strange").addEventListener("click", () => { strange.count = Infinity; strange.draw(); });
