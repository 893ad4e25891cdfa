// Arrays of a case as they stand in the page: JSON with base64 of zlib.

const TYPES = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, uint32: Uint32Array };

/** The typed array of {type, shape, data}. */
async function decode(array) {
  const text = atob(array.data);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new TYPES[array.type](await new Response(unpacked).arrayBuffer());
}

/** What a case consists of, from the page itself or, if it is being served, from where the page came from. */
async function readCase(number) {
  const element = document.getElementById(`case-${number}`);
  if (element) return JSON.parse(element.textContent);
  const answer = await fetch(`case/${number}`);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

/** A case with its arrays unpacked. */
async function loadCase(number) {
  const content = await readCase(number);
  const [scan, labels] = await Promise.all([content.scan, content.labels].map((array) => array && decode(array)));
  const maps = [];
  for (const { values, ...range } of content.maps) maps.push({ ...range, values: await decode(values) });
  const instances = [];
  for (const { numbers, colours, ids } of content.instances) {
    instances.push({ ids, numbers: await decode(numbers), colours: await decode(colours) });
  }
  const marked = content.marked.map((mark) => ({ ...mark, numbers: new Set(mark.numbers) }));
  const stores = [];
  for (const store of content.stores) {
    const [values, colours] = await Promise.all([decode(store.features), decode(store.colours)]);
    stores.push({
      ...store,
      grid: new Grid(content.shape, store.cells, store.stride, store.offset),
      features: new Features(values, store.scale, store.low),
      colours,
    });
  }
  return { ...content, scan, labels, maps, instances, marked, stores };
}
