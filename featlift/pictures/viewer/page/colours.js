// Colours of the similarity map and of labels.

// From dark blue over red to pale yellow, lighter at every step, so that it also reads in grey.
const STOPS = [
  [14, 12, 48], [70, 16, 110], [150, 30, 112], [218, 62, 80], [250, 128, 48], [253, 196, 74], [252, 250, 190],
];

/** 256 colours, RGB after RGB. */
const SIMILARITY = Uint8Array.from({ length: 256 * 3 }, (_, i) => {
  const at = (Math.floor(i / 3) / 255) * (STOPS.length - 1);
  const stop = Math.min(Math.floor(at), STOPS.length - 2);
  const [from, to] = [STOPS[stop][i % 3], STOPS[stop + 1][i % 3]];
  return Math.round(from + (to - from) * (at - stop));
});

const LABELS = ["#37d5e6", "#7ee36b", "#ff8bd1", "#ffd24a", "#8fa7ff", "#ff7d5c", "#c78bff", "#3ff0b1"];

/** Colour of the label of a number, from 1. */
function labelColour(number) {
  return LABELS[(number - 1) % LABELS.length];
}

/** How much of the scan a similarity covers, 0 to 1: what is far from similar leaves it to be seen. */
function cover(value) {
  return Math.min(Math.max((value - 0.2) / 0.5, 0), 1);
}

/** A CSS gradient of the colours of similarity over black. */
function similarityGradient() {
  const stops = STOPS.map((stop, i) => `rgb(${stop.join(" ")} / ${cover(i / (STOPS.length - 1))})`);
  return `linear-gradient(to right, ${stops.join(", ")}), #000`;
}
