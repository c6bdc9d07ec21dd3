// The camera in `holder`: a live picture, and a button that takes one picture a press and several a second while held.
const LONGEST_SIDE = 640;
const BETWEEN = 250; // milliseconds between pictures while held
const HELD_AFTER = 400;
let closeOpenCamera = null; // one camera is open at a time

function whyNoCamera(error) {
  const reasons = { NotAllowedError: 'camera_refused', SecurityError: 'camera_refused', NotReadableError: 'camera_busy' };
  if (!navigator.mediaDevices) return say('camera_insecure');
  return say(reasons[error?.name] ?? 'camera_absent');
}

// `onPicture(file)` for each picture, `onClose()` once. Gives a function that closes it.
function openCamera(holder, onPicture, onClose) {
  closeOpenCamera?.();
  const video = make('video', { playsInline: true, muted: true, autoplay: true });
  const message = make('p', { role: 'status' });
  const shutter = make('button', { className: 'tl-primary tl-shutter', disabled: true }, say('take'));
  const change = make('button', { hidden: true }, say('switch_camera'));
  const shut = make('button', { className: 'tl-close-camera' }, say('close_camera'));
  video.setAttribute('aria-label', say('camera_view'));
  holder.replaceChildren(video, message, make('div', { className: 'tl-row' }, shutter, change, shut));

  let stream = null;
  let closed = false;
  let cameras = [];
  let wanted = matchMedia('(pointer: coarse)').matches ? { facingMode: { ideal: 'environment' } } : true;
  const canvas = document.createElement('canvas');
  let taken = 0;
  let writing = 0;

  const stop = () => stream?.getTracks().forEach((track) => track.stop());
  const close = () => {
    if (closed) return;
    closed = true;
    release();
    stop();
    seen.disconnect();
    closeOpenCamera = null;
    holder.replaceChildren();
    onClose();
  };
  // Away from the screen (another step of the page) it must not go on filming.
  const seen = new IntersectionObserver(() => video.isConnected && !video.offsetParent && close());
  seen.observe(video);

  async function begin() {
    stop();
    shutter.disabled = true;
    message.textContent = say('camera_starting');
    try {
      if (!navigator.mediaDevices) throw new Error('insecure');
      stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      if (closed) return stop();
      video.srcObject = stream;
      await video.play();
      const settings = stream.getVideoTracks()[0].getSettings();
      video.classList.toggle('tl-mirrored', settings.facingMode !== 'environment');
      const devices = await navigator.mediaDevices.enumerateDevices();
      cameras = devices.filter((device) => device.kind === 'videoinput').map((device) => device.deviceId);
      change.hidden = cameras.length < 2;
      change.dataset.camera = settings.deviceId ?? '';
      message.textContent = '';
      shutter.disabled = false;
      shutter.focus({ preventScroll: true });
    } catch (error) {
      if (!closed) message.textContent = whyNoCamera(error);
    }
  }

  function take() {
    if (shutter.disabled || !video.videoWidth || writing > 2) return;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext('2d').drawImage(video, 0, 0, canvas.width, canvas.height);
    const name = `camera-${Date.now()}-${(taken += 1)}.jpg`;
    writing += 1;
    canvas.toBlob(
      (blob) => {
        writing -= 1;
        if (blob && !closed) onPicture(new File([blob], name, { type: 'image/jpeg' }));
      },
      'image/jpeg',
      0.9,
    );
  }

  let holding = 0;
  let released = 0; // when; the click that ends a press is no picture of its own
  const hold = () => {
    release();
    take();
    holding = setTimeout(() => (holding = setInterval(take, BETWEEN)), HELD_AFTER - BETWEEN);
  };
  function release() {
    clearTimeout(holding); // clears an interval, too
    holding = 0;
    released = performance.now();
  }
  shutter.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    shutter.setPointerCapture(event.pointerId);
    hold();
  });
  for (const end of ['pointerup', 'pointercancel', 'lostpointercapture', 'blur']) shutter.addEventListener(end, release);
  shutter.addEventListener('contextmenu', (event) => event.preventDefault()); // a long touch is a hold here
  shutter.addEventListener('keydown', (event) => {
    if (event.key !== ' ' && event.key !== 'Enter') return;
    event.preventDefault();
    if (!event.repeat) hold();
  });
  shutter.addEventListener('keyup', release);
  shutter.addEventListener('click', () => {
    if (performance.now() - released > HELD_AFTER) take(); // from assistive technology, without a press
  });
  change.addEventListener('click', () => {
    const next = cameras[(cameras.indexOf(change.dataset.camera) + 1) % cameras.length];
    wanted = { deviceId: { exact: next } };
    begin();
  });
  shut.addEventListener('click', close);
  closeOpenCamera = close;
  begin();
  return close;
}
