const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

/** An element with properties and children; text is text, never markup. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  root.dataset.theme = (root.dataset.theme ?? (isDark() ? "dark" : "light")) === "dark" ? "light" : "dark";
  map.readColours();
  map.draw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  map.readColours();
  map.draw();
});
