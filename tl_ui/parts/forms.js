// HTML from the server whose buttons and forms talk back: see forms.py for what an act is.
const root = element.querySelector('.tl-part');
const CHANGES = 'input, select, textarea'; // elements that act when their value changes, not when clicked
const touched = new Set(); // fields the visitor has changed since they were last sent: theirs counts, not the server's
let shown = null;

const act = lineOfActs(root, (found) => trigger('act', found));

function fieldsOf(from, submitter) {
  const scope = from.matches('form') ? from : from.closest('form, [data-fields]');
  const fields = {};
  const add = (name, value) => {
    if (!(name in fields)) fields[name] = value;
    else fields[name] = [].concat(fields[name], value);
  };
  const inputs = scope ? scope.querySelectorAll(CHANGES) : from.matches(CHANGES) ? [from] : [];
  for (const field of inputs) {
    touched.delete(field);
    if (!field.name || field.disabled || field.type === 'file') continue;
    if ((field.type === 'checkbox' || field.type === 'radio') && !field.checked) continue;
    if (field.multiple && field.options) for (const option of field.selectedOptions) add(field.name, option.value);
    else add(field.name, field.value);
  }
  if (submitter && submitter.name) add(submitter.name, submitter.value);
  return fields;
}

function start(from, submitter) {
  const data = {};
  for (const { name, value } of from.attributes) {
    if (name.startsWith('data-') && name !== 'data-act') data[name.slice(5)] = value;
  }
  act({ act: from.dataset.act, data, fields: fieldsOf(from, submitter) });
}

root.addEventListener('click', (event) => {
  const from = event.target.closest('[data-act]');
  if (!from || !root.contains(from) || from.matches(`form, ${CHANGES}`)) return;
  event.preventDefault();
  if (from.getAttribute('aria-disabled') !== 'true') start(from, null);
});
root.addEventListener('submit', (event) => {
  event.preventDefault();
  if (event.target.dataset.act) start(event.target, event.submitter);
});
root.addEventListener('input', (event) => touched.add(event.target));
root.addEventListener('change', (event) => {
  touched.add(event.target);
  if (event.target.matches(`:is(${CHANGES})[data-act]`)) start(event.target, null);
});

// Showing: what is on the page becomes what the server sent with as few changes as possible, so that pictures are not
// drawn again, scrolling stays, and the element in use stays the same one. Elements are matched by id, data-key or, for
// ticks, name and value; others by their kind and order.

function keyOf(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return null;
  if (node.id) return `#${node.id}`;
  if (node.dataset.key) return `=${node.dataset.key}`;
  return node.type === 'checkbox' || node.type === 'radio' ? `${node.name}=${node.value}` : null;
}

function become(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  const keepsOpen = old.tagName === 'DETAILS' && old.id && old.id === fresh.id;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(keepsOpen && name === 'open')) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !(keepsOpen && name === 'open')) old.setAttribute(name, value);
  }
  becomeChildren(old, fresh);
  if (old.matches(CHANGES) && !touched.has(old)) {
    if (old.type === 'checkbox' || old.type === 'radio') old.checked = fresh.hasAttribute('checked');
    else if (old.type !== 'file' && old.value !== fresh.value) old.value = fresh.value;
  }
}

function becomeChildren(old, fresh) {
  const keyed = new Map();
  const wantedKeys = new Set([...fresh.childNodes].map(keyOf));
  for (const child of [...old.childNodes]) {
    const key = keyOf(child);
    if (!key) continue;
    // First of all, so that what stays need not move: moving takes the focus away.
    if (wantedKeys.has(key)) keyed.set(key, child);
    else child.remove();
  }
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const key = keyOf(wanted);
    while (!key && at && keyOf(at)) at = at.nextSibling; // left for their keys, or removed below
    let match = key ? keyed.get(key) : at;
    if (match && match.nodeName !== wanted.nodeName) match = null;
    if (key) keyed.delete(key);
    if (match) {
      if (match === at) at = at.nextSibling;
      else old.insertBefore(match, at);
      become(match, wanted);
    } else {
      match = old.insertBefore(wanted, at);
    }
    match.tlShown = shown;
  }
  for (const child of [...old.childNodes]) if (child.tlShown !== shown) child.remove();
}

function show() {
  const inUse = root.contains(document.activeElement) ? document.activeElement : null;
  const key = inUse?.closest('[data-focus]')?.dataset.focus;
  const page = document.createElement('template');
  page.innerHTML = props.value ?? ''; // made and escaped by our Python
  const empty = !root.firstElementChild;
  shown = {}; // a mark of this showing
  const there = new Set(root.querySelectorAll('[data-appear]'));
  becomeChildren(root, page.content);
  if (empty) arrive();
  else for (const one of root.querySelectorAll('[data-appear]')) if (!there.has(one)) comeToView(one);
  for (const field of touched) if (!root.contains(field)) touched.delete(field);
  if (inUse && document.activeElement !== inUse) {
    const there = key && root.querySelector(`[data-focus="${CSS.escape(key)}"]`);
    (there || root).focus({ preventScroll: true });
  }
}

// What the visitor has waited for comes into view; not what a reload brings back.
function arrive() {
  if (navigator.userActivation?.hasBeenActive) comeToView(root.querySelector('[data-arrive]'));
}

function comeToView(there) {
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  there?.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'nearest' });
}

watch('value', show);
show();
