/** Which map is shown, which column colours it, and which of its classes are not to be seen. */
const state = { map: 0, colour: data.chosen, hidden: new Set() };

function drawLegend() {
  const column = data.columns[state.colour];
  const legend = $("legend");
  legend.replaceChildren();
  if (!column) return;
  if (!column.classes.length) {
    const text = (value) => `${+value.toPrecision(4)}`;
    legend.append(text(map.range[0]), make("div", { className: "ramp" }), text(map.range[1]));
    return;
  }
  const count = (value) => column.values.filter((each) => each === value).length;
  const entries = column.classes.map((name, value) => [value, name, count(value), `class-${value}`]);
  if (count(null)) entries.push(["none", "not known", count(null), "class-none"]);
  for (const [value, name, number, colour] of entries) {
    const button = make("button", { type: "button" }, make("i", { className: colour }), name, make("small", {}, number.toLocaleString("en")));
    button.setAttribute("aria-pressed", !state.hidden.has(value));
    button.addEventListener("click", () => {
      if (!state.hidden.delete(value)) state.hidden.add(value);
      button.setAttribute("aria-pressed", !state.hidden.has(value));
      map.tell();
    });
    legend.append(button);
  }
}

function colourBy(number) {
  state.colour = number;
  state.hidden.clear();
  map.readColours();
  drawLegend();
  map.tell();
  gallery.draw();
  strange.draw();
}

function chooseMap(number) {
  state.map = number;
  map.enlarge();
  const about = data.maps[number]?.about;
  const ringed = data.outliers.length ? " Ringed: unlike the others, see below." : "";
  const how = " Double-click to enlarge.";
  $("map-about").textContent = about ? about + ringed + how : "A map needs embeddings (extract keeps them unless --save leaves them out) of at least four cases.";
}

$("which").append(...data.maps.map((each, number) => make("option", { value: number }, each.name)));
$("which-row").hidden = data.maps.length < 2;
$("which").addEventListener("change", (event) => chooseMap(+event.target.value));

$("colour").append(...data.columns.map((column, number) => make("option", { value: number }, column.name)), make("option", { value: -1 }, "nothing"));
$("colour").value = state.colour;
$("colour-row").hidden = !data.columns.length;
$("colour").addEventListener("change", (event) => colourBy(+event.target.value));

const orders = [["id", "by id"], ["strange", "strangest first"], ...data.columns.map((column, number) => [number, `by ${column.name}`])];
$("order").append(...orders.map(([value, text]) => make("option", { value }, text)));
$("plot").hidden = !data.maps.length;
const many = data.tiles.length > 2;
for (const cards of document.querySelectorAll(".cards")) cards.classList.toggle("many", many);
$("map").hidden = data.ids.length < 4;
$("outliers").hidden = data.ids.length < 8;
for (const link of document.querySelectorAll("nav a")) link.hidden = getComputedStyle(document.querySelector(link.hash)).display === "none";
const pictured = Object.keys(data.pictures).length;
$("cases-about").textContent = "The middle slice, and the first three principal components of its features as red, green and blue: a colour means the same in every case. ";
if (!pictured) {
  $("cases-about").textContent = "There are vectors of the cases alone, and no pictures.";
} else if (pictured < data.ids.length) {
  $("cases-about").textContent += `Pictures are of ${pictured.toLocaleString("en")} of ${data.ids.length.toLocaleString("en")} cases, an evenly spaced sample and the outliers; type to find the others.`;
}
colourBy(state.colour);
chooseMap(0);
document.body.setAttribute("aria-busy", "false");
