// Class folders, chosen or dropped, with the folder names kept: see folder_picker.py for what it sends.
const root = element.querySelector('.tl-part');
const [how, status, folderButton, picturesButton, cancel, folderInput, picturesInput, bar] = [
  '.tl-how', '.tl-status', '.tl-folder', '.tl-pictures', '.tl-cancel', '.tl-folder-input', '.tl-pictures-input',
  'progress',
].map((selector) => root.querySelector(selector));
const JUNK = /(^|\/)(\.[^/]*|__MACOSX|@eaDir|Thumbs\.db|desktop\.ini)(\/|$)/i;
let working = null; // what cancels the upload under way

const folders = 'webkitdirectory' in folderInput;
const touch = matchMedia('(pointer: coarse)').matches;
folderButton.hidden = !folders;
picturesButton.hidden = folders && !touch;
how.textContent = say(touch ? 'how_touch' : 'how');
folderButton.textContent = say('choose');
picturesButton.textContent = say('choose_pictures');
cancel.textContent = say('cancel');
bar.setAttribute('aria-label', say('progress_name'));

function busy(controller) {
  const sending = controller !== null;
  working = controller;
  folderButton.disabled = picturesButton.disabled = sending;
  if (!sending && document.activeElement === cancel) (folders ? folderButton : picturesButton).focus();
  bar.hidden = cancel.hidden = !sending;
}

// `found` is a promise of [{file, rel}].
async function take(found) {
  if (working) return;
  const controller = new AbortController();
  busy(controller);
  status.textContent = say('looking');
  bar.removeAttribute('value');
  try {
    const { signal } = controller;
    const chosen = (await found(signal)).filter(({ rel }) => !JUNK.test(rel));
    const bytes = chosen.reduce((sum, { file }) => sum + file.size, 0);
    if (!chosen.length) return void (status.textContent = say('nothing'));
    if (chosen.length > props.limits.files || bytes > props.limits.bytes) {
      const size = say('size', { gigabytes: Math.round(props.limits.bytes / 1e8) / 10 });
      status.textContent = say('too_many', { count: chosen.length, limit: props.limits.files, size });
      return;
    }
    const tell = (done) => {
      status.textContent = say('progress', { done, total: chosen.length });
      bar.max = chosen.length;
      bar.value = done;
    };
    tell(0);
    const paths = await uploadAll(chosen.map(({ file }) => file), { signal, onProgress: tell });
    const sent = chosen.map(({ rel }, i) => [paths[i], rel]).filter(([path]) => path);
    const lost = chosen.length - sent.length;
    if (!sent.length) return void (status.textContent = say('failed'));
    // The list itself is sent as a file: it can be larger than an event may be.
    const list = new File([sent.map((pair) => JSON.stringify(pair)).join('\n')], 'list.jsonl');
    const [listed] = await uploadAll([list], { signal });
    if (!listed) return void (status.textContent = say('failed'));
    status.textContent = lost ? say('done_some', { count: sent.length, lost }) : say('done', { count: sent.length });
    trigger('picked', { list: listed });
  } catch (error) {
    status.textContent = say(controller.signal.aborted ? 'cancelled' : 'failed');
  } finally {
    busy(null);
  }
}

function chosenIn(input) {
  // Taken at once: clearing the input, so that the same folder can be chosen again, empties its list.
  const files = [...input.files].map((file) => ({ file, rel: file.webkitRelativePath || file.name }));
  input.value = '';
  return async () => files;
}

async function walk(entry, signal, into) {
  signal.throwIfAborted();
  const rel = entry.fullPath.replace(/^\/+/, '');
  if (JUNK.test(rel)) return;
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null))); // null: may not be read
    if (file) into.push({ file, rel });
    return;
  }
  const reader = entry.createReader();
  for (let some; (some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])))).length; ) {
    for (const below of some) await walk(below, signal, into);
    if (into.length > props.limits.files) return;
  }
}

function dropped(transfer) {
  // The entries exist only while the drop is handled; reading them may wait.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const loose = [...transfer.files].map((file) => ({ file, rel: file.name }));
  return async (signal) => {
    if (!entries.length) return loose;
    const found = [];
    for (const entry of entries) await walk(entry, signal, found);
    return found;
  };
}

folderButton.addEventListener('click', () => folderInput.click());
picturesButton.addEventListener('click', () => picturesInput.click());
folderInput.addEventListener('change', () => take(chosenIn(folderInput)));
picturesInput.addEventListener('change', () => take(chosenIn(picturesInput)));
cancel.addEventListener('click', () => working?.abort());

let over = 0; // entering a child fires before leaving its parent, so they are counted
const mark = (change) => {
  over = Math.max(0, change ? over + change : 0);
  root.classList.toggle('tl-over', over > 0);
};
root.addEventListener('dragenter', () => mark(1));
root.addEventListener('dragleave', () => mark(-1));
root.addEventListener('dragover', (event) => event.preventDefault());
root.addEventListener('drop', (event) => {
  event.preventDefault();
  mark(0);
  take(dropped(event.dataTransfer));
});
