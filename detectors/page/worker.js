// Everything that walks over pixels: shares, heat, outlines and files.

const SHOWN = 2e6;  // pixels on the page; files are made of all
const STEPS = 100;  // of the threshold

let picture, source, full, small, colours, palette, layers;

onmessage = async ({ data }) => {
  try {
    const answer = await { load, outline, save }[data.task](data);
    if (answer) postMessage({ job: data.job, ...answer });
  } catch (error) {
    postMessage({ job: data.job, error: `The browser could not do this (${error.message}).` });
  }
};

function load({ map, bitmap, canvases, colours: heat, threshold }) {
  [source, picture, layers, colours] = [map, bitmap, canvases, heat];
  const header = 10 + new DataView(source).getUint16(8, true);  // .npy 1.0: 10 bytes, the header's text, the values
  full = { values: new Float32Array(source, header), width: picture.width, height: picture.height };
  small = shrink(Math.min(1, Math.sqrt(SHOWN / full.values.length)));
  palette = Uint32Array.from(colours, ([red, green, blue]) => 0xff000000 | blue << 16 | green << 8 | red);
  for (const layer of Object.values(layers)) Object.assign(layer, { width: small.width, height: small.height });
  const context = layers.photo.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, small.width, small.height);
  paint(layers.heat, small.values, (value) => palette[grey(value)]);
  outline({ threshold });
  return { shares: shares() };
}

// The map at a smaller scale, by its nearest values.
function shrink(scale) {
  const width = Math.max(1, Math.round(full.width * scale)), height = Math.max(1, Math.round(full.height * scale));
  const values = new Float32Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    const row = Math.floor((y + 0.5) * full.height / height) * full.width;
    for (let x = 0; x < width; x++) values[at++] = full.values[row + Math.floor((x + 0.5) * full.width / width)];
  }
  return { values, width, height };
}

const grey = (value) => Math.round(Math.fround(255 * value));

function paint(layer, values, colour) {
  const image = new ImageData(layer.width, layer.height), pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < pixels.length; at++) pixels[at] = colour(values[at]);
  layer.getContext("2d").putImageData(image, 0, 0);
}

// Share of pixels at or above each step of the threshold, compared in float32 as NumPy does.
function shares() {
  const steps = Float32Array.from({ length: STEPS + 1 }, (_, step) => step / STEPS);
  const found = new Float64Array(STEPS + 1);
  for (const value of full.values) {
    let step = Math.floor(value * STEPS);
    if (value < steps[step]) step--;
    else if (value >= steps[step + 1]) step++;
    found[step]++;
  }
  for (let step = STEPS; step--;) found[step] += found[step + 1];
  return found.map((count) => count / full.values.length);
}

function outline({ threshold }) {
  paint(layers.outlines, edges(small, threshold), (edge) => edge && 0xffffff00);  // cyan, as ABGR
}

// 1 where a flagged pixel is near one that is not, or near the picture's border: what an erosion takes away.
function edges({ values, width, height }, threshold) {
  const limit = Math.fround(threshold), reach = Math.max(1, Math.round(Math.min(width, height) / 300));
  const across = new Uint8Array(values.length), found = new Uint8Array(values.length), runs = new Uint32Array(width);
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0, run = 0; x < width; x++, at++) {
      found[at] = values[at] >= limit;
      run = found[at] ? run + 1 : 0;
      if (run > 2 * reach) across[at - reach] = 1;
    }
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at++) {
      runs[x] = across[at] ? runs[x] + 1 : 0;
      if (runs[x] > 2 * reach) found[at - reach * width] = 0;
    }
  return found;
}

async function save({ name, threshold, strength }) {
  const make = { "map.png": greyPng, "overlay.png": () => overlay(threshold, strength), "map.npy": () => new Blob([source]) };
  return { name, blob: await make[name]() };
}

// As `giidnet detect` draws it: the map as heat over the grey picture, and the flagged regions outlined.
function overlay(threshold, strength) {
  const drawn = new OffscreenCanvas(full.width, full.height), context = drawn.getContext("2d");
  context.drawImage(picture, 0, 0);
  const image = context.getImageData(0, 0, full.width, full.height), { data } = image, line = edges(full, threshold);
  for (let index = 0, at = 0; index < line.length; index++, at += 4) {
    const light = (1 - strength) * (0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]);
    const heat = colours[grey(full.values[index])];
    for (let channel = 0; channel < 3; channel++)
      data[at + channel] = line[index] ? 255 * (channel > 0) : light + strength * heat[channel];
    data[at + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return drawn.convertToBlob({ type: "image/png" });
}

// A canvas writes colours only, so a grey PNG is put together here: signature, IHDR, IDAT, IEND.
async function greyPng() {
  const { values, width, height } = full, rows = new Uint8Array((width + 1) * height);
  for (let y = 0, at = 0; y < height; y++)  // a row begins with its filter: 0, none
    for (let x = 1; x <= width; x++) rows[y * (width + 1) + x] = grey(values[at++]);
  const packed = new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate")));
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8);  // bits; the colour type 0 that follows is grey
  return new Blob([Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), chunk("IHDR", header.buffer),
                   chunk("IDAT", await packed.arrayBuffer()), chunk("IEND", new ArrayBuffer())], { type: "image/png" });
}

function chunk(kind, buffer) {
  const bytes = new Uint8Array(buffer.byteLength + 12), view = new DataView(bytes.buffer);
  view.setUint32(0, buffer.byteLength);
  bytes.set(new TextEncoder().encode(kind), 4);
  bytes.set(new Uint8Array(buffer), 8);
  view.setUint32(bytes.length - 4, crc32(bytes.subarray(4, -4)));
  return bytes;
}

function crc32(bytes) {
  const table = Uint32Array.from({ length: 256 }, (_, byte) => {
    for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
    return byte;
  });
  let found = ~0;
  for (const byte of bytes) found = table[(found ^ byte) & 255] ^ (found >>> 8);
  return ~found >>> 0;
}
