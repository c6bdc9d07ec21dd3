// Sends files in small batches, a few at a time: one request a file would take three times as long for small pictures.
// The address is the one Gradio's own uploads go to.
const BATCH_FILES = 32;
const BATCH_BYTES = 8_000_000;
const PARALLEL = 3;

function uploadAddress() {
  const { root = '', api_prefix: prefix = '/gradio_api' } = window.gradio_config ?? {};
  // The path only: behind a proxy the origin Gradio thinks of need not be the one the page was loaded from.
  return `${new URL(root || '/', location.href).pathname.replace(/\/+$/, '')}${prefix}/upload`;
}

function batches(files) {
  const found = [];
  let bytes = Infinity;
  for (const file of files) {
    if (bytes + file.size > BATCH_BYTES || found.at(-1).length >= BATCH_FILES) {
      found.push([]);
      bytes = 0;
    }
    found.at(-1).push(file);
    bytes += file.size;
  }
  return found;
}

async function sendBatch(files, signal) {
  const body = new FormData();
  for (const file of files) body.append('files', file, file.name);
  const answer = await fetch(uploadAddress(), { method: 'POST', body, signal });
  if (!answer.ok) throw new Error(`upload: ${answer.status}`);
  return answer.json();
}

// The server's path of each file, or null where it could not be sent; `onProgress(done)` counts files.
async function uploadAll(files, { signal, onProgress = () => {} } = {}) {
  const paths = new Map();
  const waiting = batches(files);
  const work = async () => {
    for (let batch; (batch = waiting.shift()); ) {
      let sent = null;
      try {
        sent = await sendBatch(batch, signal);
      } catch (error) {
        if (signal?.aborted) throw error;
        // One file may be to blame (too large, or gone from the disk since it was chosen): each on its own.
        if (batch.length > 1) waiting.push(...batch.map((file) => [file]));
      }
      if (sent || batch.length === 1) batch.forEach((file, i) => paths.set(file, sent?.[i] ?? null));
      onProgress(paths.size);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  return files.map((file) => paths.get(file) ?? null);
}
