// Keys.

const ZOOM = 1.25; // of a key

/** Keys work wherever the focus is, but not those that the focused control uses itself. */
function pressed(viewer, event) {
  const { target, key } = event;
  const control = target.closest("input, select, button, summary, dialog");
  if (!viewer.content || event.ctrlKey || event.metaKey || event.altKey) return;
  if (control && (/^(Arrow|Page|Home|End|Enter| )/.test(key) || control.matches("select, dialog"))) return;
  const act = actions(viewer, event.shiftKey ? 10 : 1)[key.length === 1 ? key.toLowerCase() : key];
  if (!act) return;
  event.preventDefault();
  act();
}

/** What each key does. */
function actions(viewer, far) {
  const { state } = viewer;
  const view = viewer.views[viewer.plane];
  const clip = (value) => Math.min(Math.max(Math.round(value * STEPS) / STEPS, 0), 1);
  const fade = (by) => () => {
    const { layer, opacity } = state;
    if (layer !== "scan") viewer.set({ opacity: { ...opacity, [layer]: clip(opacity[layer] + by) } });
  };
  const threshold = (by) => () => viewer.set({ threshold: clip(state.threshold + by) });
  const down = view.flipDown ? -far : far;
  const right = view.flipRight ? -far : far;
  return {
    ArrowUp: () => viewer.step(view.down, -down),
    ArrowDown: () => viewer.step(view.down, down),
    ArrowLeft: () => viewer.step(view.right, -right),
    ArrowRight: () => viewer.step(view.right, right),
    PageUp: () => viewer.step(view.normal, far),
    PageDown: () => viewer.step(view.normal, -far),
    Enter: () => viewer.ask(state.position),
    ...Object.fromEntries(viewer.layers.map((layer, i) => [String(i + 1), () => viewer.set({ layer })])),
    "[": threshold(-0.01),
    "]": threshold(0.01),
    "-": fade(-0.05),
    "+": fade(0.05),
    "=": fade(0.05),
    z: () => viewer.enlarge(viewer.plane, ZOOM),
    x: () => viewer.enlarge(viewer.plane, 1 / ZOOM),
    0: () => viewer.enlarge(viewer.plane, 0),
    o: () => viewer.set({ outlines: !state.outlines }),
    s: () => viewer.set({ smooth: !state.smooth }),
    p: () => viewer.open(viewer.number - 1),
    n: () => viewer.open(viewer.number + 1),
    t: () => viewer.panel.switchTheme(),
    "?": () => element("keys").showModal(),
  };
}
