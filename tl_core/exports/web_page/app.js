// Classifies pictures in this browser, with the model beside this file. Nothing is sent anywhere.
// Classic scripts only, and everything as text inside of them: a page that is opened from a folder may not read files.
"use strict";
(() => {
  // A file is missing: the sentence that is on the page until now stays, and says what to do.
  if (!window.TL_MODEL || !window.TL_RUNTIME || !window.ort || !window.TL_PICTURE) return;
  const WORDS = {
    en: {
      title: "What is on the picture?", lead: "This page can tell apart: {classes}.", more: "{count} more",
      choose: "Choose pictures", camera: "Use the camera", stop: "Stop the camera", still: "Keep this picture", kept: "From the camera",
      drop: "You can also drop pictures here or paste one.", private: "Your pictures stay on this device.",
      loading: "Getting ready …", ready: "Ready.", working: "Looking at {name} …",
      strange: "This does not look like anything I was taught. These are only the nearest names.",
      unreadable: "This file cannot be opened as a picture here. JPEG and PNG always can.",
      nocamera: "The camera cannot be used: {why}", failed: "The model cannot run in this browser: {why}",
      NotAllowedError: "you or your device did not allow it. Allow it in the browser's settings and try again.",
      NotFoundError: "no camera was found.", NotReadableError: "another program is using it. Close that and try again.",
      insecure: "browsers only allow it on pages whose address starts with https.",
    },
    zh: {
      title: "图片上是什么？", lead: "这个网页能区分：{classes}。", more: "另外 {count} 个",
      choose: "选择图片", camera: "使用摄像头", stop: "关闭摄像头", still: "留下这张", kept: "来自摄像头",
      drop: "也可以把图片拖到这里，或粘贴一张。", private: "图片不会离开这台设备。",
      loading: "正在准备……", ready: "准备好了。", working: "正在看 {name} ……",
      strange: "这不像我学过的任何东西。下面只是最接近的名字。",
      unreadable: "这个文件在这里不能作为图片打开。JPEG 和 PNG 总是可以的。",
      nocamera: "无法使用摄像头：{why}", failed: "模型无法在这个浏览器里运行：{why}",
      NotAllowedError: "你或你的设备没有允许。请在浏览器设置里允许后再试。",
      NotFoundError: "没有找到摄像头。", NotReadableError: "另一个程序正在使用它。请关闭那个程序后再试。",
      insecure: "浏览器只允许地址以 https 开头的网页使用摄像头。",
    },
  };
  const language = (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";
  const say = (key, values = {}) =>
    WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
  const $ = (id) => document.getElementById(id);
  const facts = window.TL_MODEL.facts;
  const SHOWN = 5, NAMED = 12; // classes with a bar; classes in the first sentence

  function bytes(text) {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  }

  async function unpacked(text) {
    const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function started() {
    const glue = new Blob([await unpacked(window.TL_RUNTIME.glue)], { type: "text/javascript" });
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(glue) };
    ort.env.wasm.wasmBinary = await unpacked(window.TL_RUNTIME.wasm);
    const model = bytes(window.TL_MODEL.onnx);
    window.TL_RUNTIME = window.TL_MODEL.onnx = null; // some 60 MB of text
    return ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  }

  let session, turn = Promise.resolve();
  // One picture at a time: the runtime cannot do two, and a phone would not want to.
  function ask(bitmap, jpeg) {
    turn = turn.catch(() => {}).then(async () => {
      const { data, shape } = window.TL_PICTURE.pixelsOf(bitmap, jpeg, facts);
      bitmap.close();
      const found = await session.run({ picture: new ort.Tensor("uint8", data, shape) });
      const shares = Array.from(found.probabilities.data);
      const unknown = found.unknown.data[0];
      const ranking = shares.map((share, at) => [facts.classes[at], share]).sort((a, b) => b[1] - a[1]);
      return { ranking, unknown, strange: facts.threshold !== null && unknown > facts.threshold };
    });
    return turn;
  }

  async function classify(blob) {
    const { bitmap, jpeg } = await window.TL_PICTURE.opened(blob);
    return ask(bitmap, jpeg);
  }

  function element(kind, name, text) {
    const made = document.createElement(kind);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function shown(answer) {
    const parts = [element("div", "first", answer.ranking[0][0])];
    if (answer.strange) parts.push(element("p", "strange", say("strange")));
    const bars = element("ul", "bars");
    for (const [name, share] of answer.ranking.slice(0, SHOWN)) {
      const row = element("li"), meter = element("meter");
      meter.min = 0; meter.max = 1; meter.value = share;
      meter.setAttribute("aria-label", name);
      row.append(element("span", "", name), element("span", "", `${Math.round(100 * share)} %`), meter);
      bars.append(row);
    }
    return [...parts, bars];
  }

  async function what(blob) {
    let opened;
    try {
      opened = await window.TL_PICTURE.opened(blob);
    } catch {
      return [element("p", "strange", say("unreadable"))];
    }
    try {
      return shown(await ask(opened.bitmap, opened.jpeg));
    } catch (error) {
      return [element("p", "strange", say("failed", { why: error.message }))];
    }
  }

  async function show(blob, name) {
    if (!(await window.classifier.catch(() => null))) return; // what is wrong is on the page already
    $("state").textContent = say("working", { name });
    const card = element("li", "card"), image = element("img"), side = element("div", "answer");
    image.alt = name;
    image.src = URL.createObjectURL(blob);
    image.onload = image.onerror = () => URL.revokeObjectURL(image.src);
    side.append(...(await what(blob)), element("p", "name", name));
    card.append(image, side);
    $("answers").prepend(card);
    $("state").textContent = say("ready");
  }

  async function showAll(files) {
    for (const file of files) await show(file, file.name);
  }

  let stream = null;
  function stopCamera() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    $("live").hidden = $("still").hidden = true;
    $("camera").textContent = say("camera");
  }

  // The next frame is only taken when the last one is answered: a slow device sees fewer of them, never old ones.
  async function watch(mine) {
    const video = $("video");
    while (stream === mine) {
      if (video.videoWidth) {
        const answer = await ask(await createImageBitmap(video), false);
        if (stream === mine) $("live-answer").replaceChildren(...shown(answer));
      }
      await new Promise(requestAnimationFrame);
    }
  }

  function noCamera(error) {
    stopCamera();
    const why = !window.isSecureContext ? say("insecure") : error.name in WORDS.en ? say(error.name) : error.message;
    $("state").textContent = say("nocamera", { why });
  }

  async function toggleCamera() {
    if (stream) return stopCamera();
    $("camera").disabled = true; // until the person has answered the browser's question
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      stream.getVideoTracks()[0].addEventListener("ended", stopCamera); // unplugged, or no longer allowed
      $("video").srcObject = stream;
      $("live").hidden = $("still").hidden = false;
      $("camera").textContent = say("stop");
      await $("video").play();
      watch(stream).catch(noCamera);
    } catch (error) {
      noCamera(error);
    } finally {
      $("camera").disabled = false;
    }
  }

  function keepStill() {
    const video = $("video"), canvas = document.createElement("canvas");
    canvas.width = video.videoWidth; canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => show(blob, say("kept")), "image/png");
  }

  function wire() {
    $("files").addEventListener("change", (event) => { showAll([...event.target.files]); event.target.value = ""; });
    $("camera").addEventListener("click", toggleCamera);
    $("still").addEventListener("click", keepStill);
    document.addEventListener("paste", (event) => showAll([...event.clipboardData.files]));
    for (const kind of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(kind, (event) => {
        event.preventDefault(); // or the browser leaves the page for the picture
        $("drop").classList.toggle("over", kind === "dragover");
        if (kind === "drop") showAll([...event.dataTransfer.files]);
      });
    }
  }

  function named() {
    const rest = facts.classes.length - NAMED;
    const last = rest > 0 ? [say("more", { count: rest })] : [];
    return [...facts.classes.slice(0, NAMED), ...last].join(language === "zh" ? "、" : ", ");
  }

  $("alone").remove();
  document.documentElement.lang = language;
  for (const place of document.querySelectorAll("[data-word]")) {
    place.textContent = say(place.dataset.word, { classes: named() });
  }
  document.title = say("title");
  $("state").textContent = say("loading");
  wire();
  window.classifier = started().then((ready) => {
    session = ready;
    $("files").disabled = $("camera").disabled = false;
    $("state").textContent = say("ready");
    return { classify };
  });
  window.classifier.catch((error) => { $("state").textContent = say("failed", { why: error.message }); });
})();
