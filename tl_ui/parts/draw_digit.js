// A pad to draw a digit on, and what a model says to it: see draw_digit.py.
const root = element.querySelector('.tl-part');
const GRID = 32; // points a side of the bitmap that cells are counted in, four by four
const TALL = 29;
const WIDE = 25; // of a digit in it, at most
const PEN = 3.4;
const BETWEEN = 350; // milliseconds between two questions while somebody draws

const pad = make('canvas', { width: 280, height: 280, className: 'tl-pad', tabIndex: -1 });
const hint = make('p', { className: 'tl-pad-hint' }, say('hint'));
const clear = make('button', { className: 'tl-clear' }, say('clear'));
const paper = make('div', { className: 'tl-paper' }, pad, hint, clear);
const samples = make('div', { className: 'tl-samples' }, make('span', {}, say('or')));
const answer = make('div', { className: 'tl-draw-answer', role: 'status' }, make('p', {}, say('asked')));
root.append(paper, answer, samples);
pad.setAttribute('role', 'img');
pad.setAttribute('aria-label', say('pad'));

let strokes = [];
let drawing = false;
let asked = 0; // when a question was sent last
let waking = 0;
let wanted = false; // what is drawn has been asked about
const pen = pad.getContext('2d');

const send = lineOfActs(
  root,
  (act) => {
    waking = setTimeout(() => answer.replaceChildren(make('p', {}, say('waking'))), 900);
    answer.classList.add('tl-thinking'); // what it says is of the drawing before
    trigger('act', act);
  },
  () => {
    clearTimeout(waking);
    answer.classList.remove('tl-thinking');
    show();
  },
);
const busy = () => root.getAttribute('aria-busy') === 'true';

function stroke(context, lines, width) {
  Object.assign(context, { lineWidth: width, lineCap: 'round', lineJoin: 'round', strokeStyle: 'black' });
  for (const line of lines) {
    context.beginPath();
    context.moveTo(...line[0]);
    for (const point of line.length > 1 ? line.slice(1) : line) context.lineTo(point[0], point[1] + 0.01);
    context.stroke();
  }
}

// The strokes as (8, 8) numbers from 0 to 16: as large as fits, in the middle, with a pen of one width.
function cells() {
  const points = strokes.flat();
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const times = Math.min((TALL - PEN) / Math.max(bottom - top, 40), (WIDE - PEN) / Math.max(right - left, 1));
  const place = ([x, y]) => [
    GRID / 2 + (x - (left + right) / 2) * times,
    GRID / 2 + (y - (top + bottom) / 2) * times,
  ];
  const bitmap = make('canvas', { width: GRID, height: GRID }).getContext('2d');
  stroke(bitmap, strokes.map((line) => line.map(place)), PEN);
  const ink = bitmap.getImageData(0, 0, GRID, GRID).data;
  const found = new Array(64).fill(0);
  for (let at = 0; at < GRID * GRID; at += 1) {
    if (ink[4 * at + 3] > 127) found[8 * Math.floor(at / GRID / 4) + Math.floor((at % GRID) / 4)] += 1;
  }
  return found;
}

function redraw() {
  pen.clearRect(0, 0, pad.width, pad.height);
  stroke(pen, strokes, 18);
  hint.hidden = strokes.length > 0;
}

function ask() {
  asked = Date.now();
  wanted = true;
  send({ act: 'draw', cells: cells() });
}

const at = (event) => {
  const box = pad.getBoundingClientRect();
  return [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
};
pad.addEventListener('pointerdown', (event) => {
  event.preventDefault();
  pad.setPointerCapture(event.pointerId);
  drawing = true;
  strokes.push([at(event)]);
  redraw();
});
pad.addEventListener('pointermove', (event) => {
  if (!drawing) return;
  strokes.at(-1).push(at(event));
  redraw();
  if (!busy() && Date.now() - asked > BETWEEN && strokes.flat().length > 8) ask();
});
for (const over of ['pointerup', 'pointercancel']) {
  pad.addEventListener(over, () => {
    if (drawing) ask();
    drawing = false;
  });
}

clear.addEventListener('click', () => {
  strokes = [];
  wanted = false;
  redraw();
  show();
});

for (const sample of props.samples) {
  const small = make('canvas', { width: 8, height: 8 });
  const paint = small.getContext('2d');
  const image = paint.createImageData(8, 8);
  sample.cells.forEach((cell, place) => image.data.set([0, 0, 0, Math.round((cell * 255) / 16)], 4 * place));
  paint.putImageData(image, 0, 0);
  const show = make('button', { className: 'tl-sample', ariaLabel: say('sample', { digit: String(sample.digit) }) }, small);
  show.addEventListener('click', () => {
    strokes = [];
    redraw();
    hint.hidden = true;
    pen.imageSmoothingEnabled = true;
    pen.drawImage(small, 0, 0, pad.width, pad.height);
    wanted = true;
    send({ act: 'draw', cells: sample.cells });
  });
  samples.append(show);
}

// The last answer, made and escaped by our Python; nothing, once the pad was cleared.
function show() {
  clearTimeout(waking);
  if (wanted && props.value?.html) answer.innerHTML = props.value.html;
  else answer.replaceChildren(make('p', {}, say('asked')));
}
watch('value', show);
