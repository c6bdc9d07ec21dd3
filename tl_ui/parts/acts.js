// Acts wait in line: one is with the server at a time, in the order they were made, and none is lost. Making the same
// act twice in a row (a double click) makes it once. So an act should say what it wants ("page 3"), not "the next".
// A handler that has not ended after PATIENCE holds up nobody: the next act is sent, and Gradio queues it behind.
// `ended(act)` is called when an act's handler has ended, however that went, after what it gave is shown.
const PATIENCE = 30_000;

function lineOfActs(root, send, ended = () => {}) {
  const waiting = [];
  let running = null;
  let timer = 0;
  const next = () => {
    clearTimeout(timer);
    running = waiting.shift() ?? null;
    root.setAttribute('aria-busy', running ? 'true' : 'false');
    if (running) {
      timer = setTimeout(next, PATIENCE);
      send(JSON.parse(running));
    }
  };
  root.addEventListener('tl-handled', () => {
    if (running) ended(JSON.parse(running));
    next();
  });
  return (act) => {
    const text = JSON.stringify(act);
    if (text === (waiting.at(-1) ?? running)) return;
    waiting.push(text);
    if (!running) next();
  };
}
