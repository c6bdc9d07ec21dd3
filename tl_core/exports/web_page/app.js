// Classifies pictures in this browser, with the model beside this file. Nothing is sent anywhere.
// Classic scripts only, and everything as text inside of them: a page that is opened from a folder may not read files.
"use strict";
(() => {
  const WORDS = {
    en: {
      title: "What is on the picture?", lead: "This page can tell apart: {classes}.", choose: "Choose pictures",
      camera: "Use the camera", stop: "Stop the camera", still: "Keep this picture",
      drop: "You can also drop pictures here or paste one.", private: "Your pictures stay on this device.",
      loading: "Getting ready …", ready: "Ready.", working: "Looking at {name} …",
      strange: "This does not look like anything I was taught. These are only the nearest names.",
      unreadable: "This file cannot be opened as a picture.", nocamera: "The camera cannot be used: {why}",
      failed: "The model cannot run in this browser: {why}",
    },
    zh: {
      title: "图片上是什么？", lead: "这个网页能区分：{classes}。", choose: "选择图片",
      camera: "使用摄像头", stop: "关闭摄像头", still: "留下这张",
      drop: "也可以把图片拖到这里，或粘贴一张。", private: "图片不会离开这台设备。",
      loading: "正在准备……", ready: "准备好了。", working: "正在看 {name} ……",
      strange: "这不像我学过的任何东西。下面只是最接近的名字。",
      unreadable: "这个文件不能作为图片打开。", nocamera: "无法使用摄像头：{why}",
      failed: "模型无法在这个浏览器里运行：{why}",
    },
  };
  const language = (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";
  const say = (key, values = {}) =>
    WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
  const $ = (id) => document.getElementById(id);
  const facts = window.TL_MODEL.facts;
  const SHOWN = 5;
  // A picture of a phone is shrunk to this short side by the browser first: memory on phones is short.
  const LARGEST = 2 * facts.short;

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
    return ort.InferenceSession.create(bytes(window.TL_MODEL.onnx), { executionProviders: ["wasm"] });
  }

  function pixelsOf(source, width, height) {
    const scale = Math.min(1, LARGEST / Math.min(width, height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(source, 0, 0, canvas.width, canvas.height);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const rgb = new Uint8Array(canvas.width * canvas.height * 3);
    for (let from = 0, to = 0; from < data.length; from += 4) {
      rgb[to++] = data[from]; rgb[to++] = data[from + 1]; rgb[to++] = data[from + 2];
    }
    return new ort.Tensor("uint8", rgb, [canvas.height, canvas.width, 3]);
  }

  let session, turn = Promise.resolve();
  // One picture at a time: the runtime cannot do two, and a phone would not want to.
  function ask(tensor) {
    turn = turn.catch(() => {}).then(async () => {
      const found = await session.run({ picture: tensor });
      const shares = Array.from(found.probabilities.data);
      const unknown = found.unknown.data[0];
      const ranking = shares.map((share, at) => [facts.classes[at], share]).sort((a, b) => b[1] - a[1]);
      return { ranking, unknown, strange: facts.threshold !== null && unknown > facts.threshold };
    });
    return turn;
  }

  async function classify(blob) {
    const options = { imageOrientation: "from-image", colorSpaceConversion: "none" };
    const picture = await createImageBitmap(blob, options);
    try {
      return await ask(pixelsOf(picture, picture.width, picture.height));
    } finally {
      picture.close();
    }
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

  async function show(blob, name) {
    $("state").textContent = say("working", { name });
    const card = element("li", "card"), image = element("img"), side = element("div", "answer");
    image.alt = name;
    image.src = URL.createObjectURL(blob);
    let what;
    try {
      what = shown(await classify(blob));
    } catch {
      what = [element("p", "strange", say("unreadable"))];
    }
    side.append(...what, element("p", "name", name));
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

  async function watch() {
    const video = $("video");
    while (stream) {
      if (video.videoWidth) {
        const answer = await ask(pixelsOf(video, video.videoWidth, video.videoHeight));
        $("live-answer").replaceChildren(...shown(answer));
      }
      await new Promise(requestAnimationFrame);
    }
  }

  async function toggleCamera() {
    if (stream) return stopCamera();
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      $("state").textContent = say("nocamera", { why: error.message });
      return;
    }
    $("video").srcObject = stream;
    await $("video").play();
    $("live").hidden = $("still").hidden = false;
    $("camera").textContent = say("stop");
    watch();
  }

  function keepStill() {
    const video = $("video"), canvas = document.createElement("canvas");
    canvas.width = video.videoWidth; canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => show(blob, say("camera")), "image/png");
  }

  function wire() {
    $("files").addEventListener("change", (event) => { showAll([...event.target.files]); event.target.value = ""; });
    $("camera").addEventListener("click", toggleCamera);
    $("still").addEventListener("click", keepStill);
    document.addEventListener("paste", (event) => showAll([...event.clipboardData.files]));
    for (const kind of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(kind, (event) => {
        event.preventDefault();
        $("drop").classList.toggle("over", kind === "dragover");
        if (kind === "drop") showAll([...event.dataTransfer.files]);
      });
    }
  }

  document.documentElement.lang = language;
  for (const place of document.querySelectorAll("[data-word]")) {
    place.textContent = say(place.dataset.word, { classes: facts.classes.slice(0, 12).join(", ") });
  }
  document.title = say("title");
  $("state").textContent = say("loading");
  window.classifier = started().then((ready) => {
    session = ready;
    wire();
    $("files").disabled = $("camera").disabled = false;
    $("state").textContent = say("ready");
    return { classify };
  }, (error) => { $("state").textContent = say("failed", { why: error.message }); throw error; });
})();
