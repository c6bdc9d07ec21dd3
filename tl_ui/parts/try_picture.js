// One picture to ask about, from wherever it comes, and what is said of it: see try_picture.py.
const root = element.querySelector('.tl-part');
const LONGEST_FRAME = 256; // pixels of what is looked at live
const BETWEEN_FRAMES = 700; // milliseconds

const file = make('input', { type: 'file', hidden: true, accept: 'image/*,.heic,.heif,.avif,.tif,.tiff' });
const choose = make('button', { className: 'tl-primary tl-choose' }, say('choose'));
const paste = make('button', { className: 'tl-paste' }, say('paste'));
const camera = make('button', { className: 'tl-camera' }, say('camera'));
const live = make('button', { className: 'tl-live' }, say('live'));
const ways = make('div', { className: 'tl-row' }, choose, paste, camera, live);
const zone = make('div', { id: 'one-upload' }, file, make('p', { className: 'tl-how' }, say('drop')), ways);
const status = make('p', { className: 'tl-status', role: 'status' });
const holder = make('div', { className: 'tl-camera-holder' });
const pictures = make('div', { className: 'tl-pictures' });
const answer = make('div', { className: 'tl-said' });
const spoken = make('p', { className: 'tl-spoken', role: 'status' });
const likes = make('div', {});
const alarms = make('div', {});
const range = make('input', { type: 'range', id: 'one-alarms', step: 1 });
Object.assign(range, { min: props.alarms.least, max: props.alarms.most, value: props.alarms.usual });
const name = make('label', { htmlFor: 'one-alarms' }, say('alarms'));
const [rarely, often] = ['rarely', 'often'].map((end) => make('span', {}, say(end)));
const ends = make('div', { className: 'tl-ends' }, rarely, range, often);
const slider = make('div', { className: 'tl-slider' }, name, ends);
const more = make('details', { id: 'one-more', hidden: true }, make('summary', {}, say('more')), likes, slider, alarms);
const stage = make('div', { className: 'tl-stage' }, holder, answer, pictures);
root.append(zone, status, stage, more, spoken);

let uploading = false;
let withServer = ''; // the act that is with the server, or was last
let heard = 0; // the serial of what was shown last
let before = 0; // the same when the act was sent
let closeView = null;
let look = null; // the button that starts and stops looking live
let timer = 0;

const send = lineOfActs(
  root,
  (act) => {
    withServer = act.act;
    before = heard;
    trigger('act', act);
  },
  (act) => {
    if (status.textContent === say('looking')) status.textContent = '';
    if (act.act === 'frame' && heard === before) watchLive(false); // it failed, and would go on failing
  },
);
const busy = () => root.getAttribute('aria-busy') === 'true';
const place = () => Number(range.value);

async function tryFile(chosen) {
  if (uploading) return;
  uploading = true;
  watchLive(false);
  status.textContent = say('looking');
  const [path] = await uploadAll([chosen]);
  uploading = false;
  if (path) send({ act: 'picture', path, at: Date.now(), alarms: place() });
  else status.textContent = say('lost');
}

function tryFirst(files) {
  const found = [...files].filter((one) => one.type !== '' || one.size > 0);
  if (found.length) tryFile(found[0]);
  else status.textContent = say('no_picture');
}

function show(holding, html) {
  if (holding.tlShown === html) return; // so that a picture is not drawn again
  holding.tlShown = html;
  const was = holding.querySelector('details');
  const inUse = was?.contains(document.activeElement);
  holding.innerHTML = html; // made and escaped by our Python
  const fold = holding.querySelector('details');
  if (!fold || !was) return;
  fold.open = was.open; // as the visitor left it, however often a live answer is drawn anew
  if (inUse) fold.querySelector('summary').focus({ preventScroll: true });
}

function hear() {
  const value = props.value;
  if (!value || value.serial === heard) return;
  heard = value.serial;
  show(answer, value.answer);
  show(pictures, value.pictures);
  show(likes, value.likes);
  show(alarms, value.alarms);
  more.hidden = !value.answer;
  slider.hidden = !value.measured;
  if (spoken.textContent !== value.spoken) spoken.textContent = value.spoken;
  if (value.refused || withServer !== 'frame') status.textContent = value.refused;
  if (value.more) send({ act: 'why', of: value.serial, alarms: place() });
}

// The camera

function openView(lookNow) {
  if (!closeView) {
    const closed = () => {
      watchLive(false);
      const inside = holder.contains(document.activeElement) || document.activeElement === document.body;
      closeView = look = null;
      if (inside && root.offsetParent) (lookNow ? live : camera).focus({ preventScroll: true });
    };
    closeView = openCamera(holder, takeStill, closed);
    look = make('button', { className: 'tl-look' });
    look.addEventListener('click', () => watchLive(!timer));
    holder.querySelector('.tl-shutter').after(look);
    if (innerWidth <= 640) stage.scrollIntoView(); // a phone has no room for all of it
  }
  watchLive(lookNow, true);
}

function takeStill(taken) {
  if (!(busy() && withServer === 'picture')) tryFile(taken); // one at a time, however long the button is held
}

function watchLive(on, newly = false) {
  if (on === Boolean(timer) && !newly) return;
  clearInterval(timer);
  timer = on ? setInterval(sendFrame, BETWEEN_FRAMES) : 0;
  if (!look) return;
  look.textContent = say(on ? 'stop_looking' : 'look');
  look.setAttribute('aria-pressed', String(on));
}

const frame = document.createElement('canvas');
function sendFrame() {
  const video = holder.querySelector('video');
  if (!video?.videoWidth || busy() || uploading) return; // never more than one under way
  const scale = Math.min(1, LONGEST_FRAME / Math.max(video.videoWidth, video.videoHeight));
  const width = (frame.width = Math.max(1, Math.round(video.videoWidth * scale)));
  const height = (frame.height = Math.max(1, Math.round(video.videoHeight * scale)));
  const canvas = frame.getContext('2d', { willReadFrequently: true });
  canvas.imageSmoothingQuality = 'high';
  canvas.drawImage(video, 0, 0, width, height);
  const { data } = canvas.getImageData(0, 0, width, height);
  let bytes = '';
  for (let at = 0; at < data.length; at += 4) bytes += String.fromCharCode(data[at], data[at + 1], data[at + 2]);
  send({ act: 'frame', at: Date.now(), width, height, pixels: btoa(bytes), alarms: place() });
}

camera.addEventListener('click', () => openView(false));
live.addEventListener('click', () => openView(true));
document.addEventListener('visibilitychange', () => document.hidden && closeView?.()); // nobody looks at the answers

let away = false;
const seen = new IntersectionObserver(() => {
  const there = Boolean(root.offsetParent);
  if (there && away && heard) send({ act: 'back', at: Date.now() });
  away = !there;
});
seen.observe(root);

// Files and the clipboard

choose.addEventListener('click', () => file.click());
file.addEventListener('change', () => {
  const chosen = [...file.files];
  file.value = '';
  if (chosen.length) tryFile(chosen[0]);
});
root.addEventListener('dragover', (event) => event.preventDefault());
root.addEventListener('drop', (event) => {
  event.preventDefault();
  tryFirst(event.dataTransfer.files);
});
document.addEventListener('paste', (event) => {
  const elsewhere = event.target.closest?.('input:not([type=range]), textarea, [contenteditable=true]');
  if (!root.isConnected || !root.offsetParent || elsewhere) return;
  event.preventDefault();
  tryFirst(event.clipboardData.files);
});
paste.addEventListener('click', async () => {
  let items;
  try {
    items = await navigator.clipboard.read();
  } catch {
    status.textContent = say('paste_keys'); // refused, or a browser that has no such thing
    return;
  }
  const item = items.find((one) => one.types.some((type) => type.startsWith('image/')));
  const type = item?.types.find((one) => one.startsWith('image/'));
  if (type) tryFile(new File([await item.getType(type)], `pasted.${type.split(/[/+]/)[1]}`, { type }));
  else status.textContent = say('no_picture');
});

range.addEventListener('change', () => send({ act: 'alarms', alarms: place() }));
watch('value', hear);
hear();
