// The card of one class: its name, its pictures, and what can be done with them. `on` are the builder's functions.
const SHOWN = 24; // pictures of a class that are shown before one asks for all

function newCard(id, on) {
  const name = make('input', { className: 'tl-class-name', maxLength: 64, autocomplete: 'off', spellcheck: false });
  const count = make('span', { className: 'tl-class-count' });
  const remove = make('button', { className: 'tl-remove-class' }, '✕');
  const files = make('input', { type: 'file', multiple: true, hidden: true, className: 'tl-files' });
  files.accept = 'image/*,.heic,.heif,.avif,.tif,.tiff';
  const add = make('button', { className: 'tl-add' }, say('add'));
  const camera = make('button', { className: 'tl-camera' }, say('camera'));
  const holder = make('div', { className: 'tl-camera-holder' });
  const pictures = make('ul', { className: 'tl-pictures' });
  const all = make('button', { className: 'tl-all', hidden: true });
  name.setAttribute('aria-label', say('name'));
  const head = make('div', { className: 'tl-row tl-class-head' }, name, count, remove);
  const row = make('div', { className: 'tl-row' }, add, camera, files);
  const element = make('section', { className: 'tl-class' }, head, row, holder, pictures, all);
  const card = { id, element, name, count, remove, add, camera, holder, pictures, all, showAll: false, known: '' };

  name.addEventListener('change', () => {
    const wanted = name.value.trim();
    if (!wanted) name.value = card.known;
    else if (wanted !== card.known) on.act({ act: 'rename', class: id, name: wanted });
  });
  name.addEventListener('keydown', (event) => event.key === 'Enter' && !event.isComposing && add.focus());
  remove.addEventListener('click', () => on.removeClass(card));
  add.addEventListener('click', () => files.click());
  files.addEventListener('change', () => {
    const chosen = [...files.files];
    files.value = '';
    on.addFiles(id, chosen);
  });
  camera.addEventListener('click', () => {
    camera.disabled = true;
    const closed = () => {
      const inside = holder.contains(document.activeElement) || document.activeElement === document.body;
      camera.disabled = false;
      if (inside) camera.focus({ preventScroll: true });
    };
    card.closeCamera = openCamera(holder, (file) => on.addFiles(id, [file]), closed);
  });
  all.addEventListener('click', () => {
    card.showAll = true;
    on.render();
  });
  element.addEventListener('dragover', (event) => event.preventDefault());
  element.addEventListener('drop', (event) => {
    event.preventDefault();
    on.addFiles(id, [...event.dataTransfer.files].filter((file) => file.type !== '' || file.size > 0));
  });
  return card;
}

// `items` are {key, src, why, waiting} newest first; an item's element stays the same one while it is shown.
function fillCard(card, one, items, on) {
  card.known = one.name;
  if (document.activeElement !== card.name) card.name.value = one.name;
  card.element.setAttribute('aria-label', one.name);
  card.remove.setAttribute('aria-label', say('remove_class', { name: one.name }));
  card.remove.title = card.remove.ariaLabel;
  card.count.textContent = say(items.length === 1 ? 'count_one' : 'count', { count: items.length });
  const visible = card.showAll ? items : items.slice(0, SHOWN);
  card.all.hidden = visible.length === items.length;
  card.all.textContent = say('show_all', { count: items.length });

  const old = new Map([...card.pictures.children].map((item) => [item.dataset.key, item]));
  const inUse = [...card.pictures.children].findIndex((item) => item.contains(document.activeElement));
  visible.forEach((item, at) => {
    const element = old.get(item.key) ?? newPicture(card, item, on);
    old.delete(item.key);
    fillPicture(element, item, items.length - at);
    if (card.pictures.children[at] !== element) card.pictures.insertBefore(element, card.pictures.children[at] ?? null);
  });
  old.forEach((item) => item.remove());
  if (inUse >= 0 && !card.pictures.contains(document.activeElement)) {
    const next = card.pictures.children[Math.min(inUse, card.pictures.children.length - 1)];
    (next?.querySelector('button') ?? card.add).focus({ preventScroll: true });
  }
  return visible;
}

function newPicture(card, item, on) {
  const image = make('img', { alt: '', decoding: 'async' });
  const remove = make('button', {}, '✕');
  const element = make('li', {}, image, make('span', { className: 'tl-why' }), remove);
  element.dataset.key = item.key;
  image.addEventListener('error', () => on.cannotShow(item.key));
  remove.addEventListener('click', () => on.removePicture(card.id, item.key));
  return element;
}

function fillPicture(element, item, number) {
  const [image, why, remove] = element.children;
  if (item.src && image.getAttribute('src') !== item.src) image.src = item.src;
  if (!item.src) image.removeAttribute('src');
  image.hidden = !item.src;
  why.textContent = item.src ? '' : item.why ?? '';
  element.classList.toggle('tl-waiting', item.waiting);
  remove.disabled = item.waiting;
  remove.setAttribute('aria-label', say('remove', { number }));
}
