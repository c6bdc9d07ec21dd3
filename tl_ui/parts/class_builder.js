// The classes as the server keeps them, with the pictures that are on their way to it: see class_builder.py.
const root = element.querySelector('.tl-part');
const FILES_AN_ACT = 500;
const THUMBS_AN_ACT = 24;
const list = make('div', { className: 'tl-class-list' });
const addClass = make('button', { className: 'tl-add-class' }, say('add_class'));
const use = make('button', { className: 'tl-primary tl-use', disabled: true }, say('use'));
const need = make('p', { className: 'tl-need' }, say('need'));
const status = make('p', { className: 'tl-status', role: 'alert' });
root.append(list, make('div', { className: 'tl-row' }, addClass), status, need, make('div', { className: 'tl-row' }, use));

const cards = new Map(); // by the class's id
const waiting = new Map(); // pictures on their way, by a key of ours: {class, src}
const shownAs = new Map(); // by the picture's id: {key, src, why}; `key` is the one it had on its way
const asked = new Set(); // thumbnails under way
let sent = 0;

const mine = new Map(); // the picture's id by the key it had on its way

const send = lineOfActs(
  root,
  (act) => {
    if (act.act !== 'use') return trigger('act', act);
    trigger('use', {}); // in line, so that a name being typed is kept before; but nothing waits for it
    root.dispatchEvent(new Event('tl-handled'));
  },
  (act) => {
    // What has not been added, or shown, by now will not be.
    if (act.act === 'add') act.files.forEach(([key]) => forget(key));
    if (act.act !== 'thumbs') return render();
    for (const id of act.pictures.filter((picture) => asked.delete(picture))) {
      shownAs.set(id, { key: shownAs.get(id)?.key ?? id, why: '' });
    }
  },
);

const on = {
  act: send,
  render,
  removeClass(card) {
    const count = card.pictures.children.length;
    if (count && !window.confirm(say('remove_class_sure', { name: card.known, count: card.total }))) return;
    card.closeCamera?.();
    send({ act: 'remove_class', class: card.id });
  },
  removePicture(id, key) {
    if (!waiting.has(key)) send({ act: 'remove', class: id, picture: mine.get(key) ?? key });
  },
  async addFiles(id, files) {
    status.textContent = '';
    const keys = files.map((file) => {
      const key = `new-${Date.now()}-${(sent += 1)}`;
      waiting.set(key, { class: id, src: URL.createObjectURL(file) });
      return key;
    });
    render();
    const paths = await uploadAll(files);
    const pairs = keys.map((key, i) => [key, paths[i]]);
    const lost = pairs.filter(([, path]) => !path);
    lost.forEach(([key]) => forget(key));
    if (lost.length) status.textContent = say('lost', { count: lost.length });
    const good = pairs.filter(([, path]) => path);
    for (let at = 0; at < good.length; at += FILES_AN_ACT) {
      send({ act: 'add', class: id, files: good.slice(at, at + FILES_AN_ACT) });
    }
    render();
  },
  cannotShow(key) {
    const id = mine.get(key) ?? key;
    const known = shownAs.get(id);
    if (known?.src) URL.revokeObjectURL(known.src);
    if (known) shownAs.set(id, { key: known.key });
    else if (waiting.has(key)) waiting.get(key).src = null;
    render();
  },
};

function forget(key) {
  const src = waiting.get(key)?.src;
  if (src) URL.revokeObjectURL(src);
  waiting.delete(key);
}

function hear() {
  const { added = {}, thumbs = {}, refused = '', new: fresh } = props.value ?? {};
  let larger = 0;
  for (const [key, id] of Object.entries(added)) {
    const was = waiting.get(key);
    if (id && was) {
      shownAs.set(id, { key, src: was.src });
      mine.set(key, id);
      waiting.delete(key);
    } else if (was) {
      forget(key);
      larger += 1;
    }
  }
  for (const [id, thumb] of Object.entries(thumbs)) {
    shownAs.set(id, { key: shownAs.get(id)?.key ?? id, ...thumb });
    asked.delete(id);
  }
  if (refused || larger) status.textContent = refused || say('larger', { count: larger });
  render();
  if (fresh) cards.get(fresh)?.name.select();
}

function render() {
  const { classes = [], ready = false } = props.value ?? {};
  const ids = new Set(classes.map((one) => one.id));
  for (const [id, card] of cards) {
    if (ids.has(id)) continue;
    const inUse = card.element.contains(document.activeElement);
    card.closeCamera?.();
    card.element.remove();
    cards.delete(id);
    if (inUse) addClass.focus({ preventScroll: true });
  }
  const missing = [];
  classes.forEach((one, at) => {
    if (!cards.has(one.id)) cards.set(one.id, newCard(one.id, on));
    const card = cards.get(one.id);
    if (list.children[at] !== card.element) list.insertBefore(card.element, list.children[at] ?? null);
    const coming = [...waiting].filter(([, picture]) => picture.class === one.id);
    const items = [
      ...coming.reverse().map(([key, { src }]) => ({ key, src, waiting: true })),
      ...[...one.pictures].reverse().map((id) => ({ id, key: id, waiting: false, ...shownAs.get(id) })),
    ];
    card.total = items.length;
    for (const item of fillCard(card, one, items, on)) {
      if (item.id && !item.src && item.why === undefined && !asked.has(item.id)) missing.push(item.id);
    }
  });
  for (let at = 0; at < missing.length; at += THUMBS_AN_ACT) {
    const pictures = missing.slice(at, at + THUMBS_AN_ACT);
    pictures.forEach((id) => asked.add(id));
    send({ act: 'thumbs', pictures });
  }
  use.disabled = !ready || waiting.size > 0;
  need.hidden = ready;
}

addClass.addEventListener('click', () => send({ act: 'add_class' }));
use.addEventListener('click', () => {
  closeOpenCamera?.();
  send({ act: 'use' });
});
watch('value', hear);
render();
