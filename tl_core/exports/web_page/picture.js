// Pictures as the model was taught them: upright, RGB, on white, and shrunk as Transfer Lab shrinks while it decodes.
// A large picture is read in strips, so that a phone never holds more of it than the browser's own decoded copy.
"use strict";
(() => {
  const STRIP = 256; // rows at a time

  // Transfer Lab has libjpeg-turbo decode a JPEG at the smallest n/8 of its size whose sides are long enough: of each
  // 8 x 8 block the n x n lowest frequencies become n x n pixels. Here the browser has decoded all of it already, so
  // the block goes back to frequencies first. (kept, 8) numbers; a constant stays what it is.
  function lowestFrequencies(kept) {
    const cosine = (size, k, x) =>
      Math.cos((Math.PI * (2 * x + 1) * k) / (2 * size)) * Math.sqrt((k ? 2 : 1) / size);
    return Array.from({ length: kept }, (_, to) => Array.from({ length: 8 }, (_, from) => {
      let sum = 0;
      for (let k = 0; k < kept; k++) sum += cosine(kept, k, to) * cosine(8, k, from);
      return sum * Math.sqrt(kept / 8);
    }));
  }

  const mean = (block) => [new Array(block).fill(1 / block)];

  // How one side is shrunk before the model, which does the rest. `weights` make `kept` pixels of every `block`.
  function ways(width, height, jpeg, { short, long }) {
    if (jpeg) {
      let kept = 1;
      while (kept < 8 && Math.ceil((Math.min(width, height) * kept) / 8) < short) kept++;
      const way = kept === 8 ? { block: 1, weights: mean(1) } : { block: 8, weights: lowestFrequencies(kept) };
      return [way, way];
    }
    // Everything else is averaged by whole numbers to no less than twice what is wanted (Pillow's reducing_gap).
    const scale = Math.min(1, short / Math.min(width, height), long / Math.max(width, height));
    return [width, height].map((side) => {
      const block = Math.max(1, Math.floor(side / Math.max(1, Math.round(side * scale)) / 2));
      return { block, weights: mean(block) };
    });
  }

  // RGBA rows -> (rows, to, 3) numbers: every row shrunk.
  function shrunkRows(data, rows, width, { block, weights }, to) {
    const kept = weights.length, out = new Float32Array(rows * to * 3);
    for (let row = 0, at = 0; row < rows; row++) {
      for (let x = 0; x < to; x++, at += 3) {
        const factors = weights[x % kept], first = Math.floor(x / kept) * block;
        for (let i = 0; i < block; i++) {
          const from = 4 * (row * width + Math.min(first + i, width - 1)), factor = factors[i];
          out[at] += factor * data[from];
          out[at + 1] += factor * data[from + 1];
          out[at + 2] += factor * data[from + 2];
        }
      }
    }
    return out;
  }

  // Those (rows, to, 3) numbers -> rows of `rgb` from `first` on: every column shrunk. Gives the row after the last.
  function shrinkColumns(lines, rows, line, { block, weights }, rgb, first) {
    const kept = weights.length, count = Math.ceil((rows * kept) / block), sums = new Float32Array(line);
    for (let y = 0; y < count; y++) {
      const factors = weights[y % kept], start = Math.floor(y / kept) * block;
      sums.fill(0);
      for (let i = 0; i < block; i++) {
        const from = Math.min(start + i, rows - 1) * line, factor = factors[i];
        for (let x = 0; x < line; x++) sums[x] += factor * lines[from + x];
      }
      rgb.set(sums, (first + y) * line); // rounds and clamps
    }
    return first + count;
  }

  // `source` is an ImageBitmap; `limits` the sides that the model was taught on.
  function pixelsOf(source, jpeg, limits) {
    const { width, height } = source, [across, down] = ways(width, height, jpeg, limits);
    const to = [[width, across], [height, down]].map(([side, way]) => Math.ceil((side * way.weights.length) / way.block));
    const rgb = new Uint8ClampedArray(to[0] * to[1] * 3);
    const canvas = document.createElement("canvas"), strip = down.block * Math.ceil(STRIP / down.block);
    canvas.width = width;
    canvas.height = Math.min(strip, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    for (let top = 0, done = 0; top < height; top += strip) {
      const rows = Math.min(strip, height - top);
      context.fillRect(0, 0, width, rows);
      context.drawImage(source, 0, -top);
      const lines = shrunkRows(context.getImageData(0, 0, width, rows).data, rows, width, across, to[0]);
      done = shrinkColumns(lines, rows, to[0] * 3, down, rgb, done);
    }
    return { data: new Uint8Array(rgb.buffer), shape: [to[1], to[0], 3] };
  }

  // A picture file -> an upright ImageBitmap, its colours as they are written, and whether it is a JPEG.
  async function opened(blob) {
    const start = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
    const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
    return { bitmap, jpeg: start[0] === 0xff && start[1] === 0xd8 };
  }

  window.TL_PICTURE = { opened, pixelsOf };
})();
