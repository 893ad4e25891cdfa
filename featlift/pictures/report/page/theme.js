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
