// Told when it is done, and a link to come back by: see waiting.py.
const root = element.querySelector('.tl-part');
const NAME = document.title.replace(/^\S+ · /, '');
const kept = (name) => {
  try {
    return localStorage.getItem(`tl-${name}`) === 'yes';
  } catch {
    return false;
  }
};

function keep(name, on) {
  try {
    localStorage.setItem(`tl-${name}`, on ? 'yes' : 'no');
  } catch {
    // a frame without storage: kept as long as the page is
  }
}

function choice(name) {
  const box = make('input', { type: 'checkbox', checked: kept(name) });
  const label = make('label', {}, box, ` ${say(name)}`);
  box.addEventListener('change', () => keep(name, box.checked));
  return [box, label];
}

const [tell, tellLabel] = choice('tell');
const [sound, soundLabel] = choice('sound');
const link = make('button', {}, say('link'));
const note = make('p', { className: 'tl-note', role: 'status' });
root.append(tellLabel, soundLabel, link, note);
tellLabel.hidden = !('Notification' in window);

tell.addEventListener('change', async () => {
  if (tell.checked && (await Notification.requestPermission()) !== 'granted') {
    tell.checked = false;
    keep('tell', false);
    note.textContent = say('refused');
  }
});
sound.addEventListener('change', () => sound.checked && ring());
link.addEventListener('click', async () => {
  const address = `${location.origin}${location.pathname}#run=${props.value.key}`;
  try {
    await navigator.clipboard.writeText(address);
    note.textContent = say('copied');
  } catch {
    note.textContent = `${say('by_hand')} ${address}`;
  }
});

// Two soft notes.
function ring() {
  const context = new AudioContext();
  [523.25, 783.99].forEach((frequency, place) => {
    const at = context.currentTime + 0.18 * place;
    const tone = context.createOscillator();
    const loudness = context.createGain();
    tone.frequency.value = frequency;
    loudness.gain.setValueAtTime(0.0001, at);
    loudness.gain.exponentialRampToValueAtTime(0.15, at + 0.02);
    loudness.gain.exponentialRampToValueAtTime(0.0001, at + 0.5);
    tone.connect(loudness).connect(context.destination);
    tone.start(at);
    tone.stop(at + 0.55);
  });
}

let before = { key: '', state: '' };
function show() {
  const now = props.value?.key ? props.value : { key: '', state: '', percent: 0 };
  root.hidden = !['running', 'finished'].includes(now.state);
  const ended = now.key === before.key && before.state === 'running' && now.state !== 'running';
  const mark = now.state === 'running' ? `${now.percent} % · ` : ended && document.hidden ? '✓ · ' : '';
  document.title = mark + NAME;
  for (const label of [tellLabel, soundLabel]) label.classList.toggle('tl-off', now.state !== 'running');
  if (ended) {
    if (sound.checked) ring();
    if (tell.checked && document.hidden && Notification.permission === 'granted') notify(now.state);
  }
  before = now;
}

// Chrome on Android lets pages ask, and then has it only from service workers: nothing to offer there.
function notify(state) {
  try {
    new Notification(NAME, { body: say(state === 'finished' ? 'done' : 'over') });
  } catch {
    tellLabel.hidden = true;
  }
}
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && document.title.startsWith('✓')) document.title = NAME;
});
watch('value', show);
show();
