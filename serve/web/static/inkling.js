// The page's one script: drawing, choosing, asking, showing. It calls the server that it came from, and nobody else.
"use strict";

const TEXTS = {
  en: {
    skip: "Skip to the answer", tagline: "Draw or drop a picture, and see what the model makes of it.",
    taglineDigits: "Draw a digit or drop a picture, and see what the model makes of it.",
    pageLanguage: "Language of the page", picture: "Your picture", pad: "Drawing area", hint: "Draw here",
    hintMore: "or drop, paste or choose a picture", tools: "Drawing tools", undo: "Undo", clear: "Clear",
    choose: "Choose a picture", helpTitle: "Without a mouse",
    padHelp: "Arrow keys move the pen, with Shift farther. Space sets it down and lifts it. Z takes the last stroke back, and Escape clears.",
    samples: "Samples", sample: "Sample: {name}", answer: "Answer", model: "Model", labels: "Labels in",
    token: "This server asks for a token", send: "Use it", empty: "Nothing to see yet. The answer comes while you draw.",
    bars: "The most probable labels", seen: "As the net saw it", prepared: "{width} × {height} pixels",
    time: "Where the time went", queue: "waiting", decode: "decoding", prepare: "preparing", inference: "the net",
    rest: "the way here and back", ms: "{number} ms", api: "HTTP API",
    stays: "Pictures go to this server and nowhere else.",
    gone: "The server does not answer. This page tries again every two seconds.", back: "The server answers again.",
    failed: "No answer: {reason}", penDown: "Pen down", penUp: "Pen up", cleared: "Cleared",
    noModels: "The server has no model.", chosen: "Your picture, {name}", drawn: "Your drawing",
    facts: "{name}, version {version}: {accuracy} of {count} test images right. {precision} on {device}.",
    unverified: "{name}, version {version}: unverified, for nobody has measured it. {precision} on {device}.",
    step_levels: "as it came", step_ink: "the ink", step_strokes: "the strokes",
    note_NO_INK: "There is nothing on the page.", note_SEVERAL_PARTS: "There seems to be more than one thing in the picture.",
    known: "This looks like what the model knows.",
    rare: "Of the pictures that the model knows, only {share} look less typical.",
    strange: "This does not look like anything that the model knows. Do not rely on the answer.",
  },
  ru: {
    skip: "Перейти к ответу", tagline: "Нарисуйте или перетащите картинку, и посмотрите, что скажет модель.",
    taglineDigits: "Нарисуйте цифру или перетащите картинку, и посмотрите, что скажет модель.",
    pageLanguage: "Язык страницы", picture: "Ваша картинка", pad: "Поле для рисования", hint: "Рисуйте здесь",
    hintMore: "или перетащите, вставьте, выберите картинку", tools: "Инструменты рисования", undo: "Отменить",
    clear: "Очистить", choose: "Выбрать картинку", helpTitle: "Без мыши",
    padHelp: "Стрелки двигают перо, с Shift дальше. Пробел опускает и поднимает его. Z убирает последнюю линию, Escape очищает.",
    samples: "Примеры", sample: "Пример: {name}", answer: "Ответ", model: "Модель", labels: "Названия",
    token: "Этот сервер просит токен", send: "Отправить", empty: "Пока ничего нет. Ответ появится, пока вы рисуете.",
    bars: "Самые вероятные названия", seen: "Что увидела сеть", prepared: "{width} × {height} пикселей",
    time: "Куда ушло время", queue: "ожидание", decode: "декодирование", prepare: "подготовка", inference: "сеть",
    rest: "дорога туда и обратно", ms: "{number} мс", api: "HTTP API",
    stays: "Картинки отправляются только на этот сервер.",
    gone: "Сервер не отвечает. Страница пробует снова каждые две секунды.", back: "Сервер снова отвечает.",
    failed: "Нет ответа: {reason}", penDown: "Перо опущено", penUp: "Перо поднято", cleared: "Очищено",
    noModels: "На сервере нет моделей.", chosen: "Ваша картинка, {name}", drawn: "Ваш рисунок",
    facts: "{name}, версия {version}: верно {accuracy} из {count} проверочных картинок. {precision} на {device}.",
    unverified: "{name}, версия {version}: не проверена, точность никто не измерял. {precision} на {device}.",
    step_levels: "как пришла", step_ink: "чернила", step_strokes: "линии",
    note_NO_INK: "На листе ничего нет.", note_SEVERAL_PARTS: "Кажется, на картинке больше одного предмета.",
    known: "Это похоже на то, что модель знает.",
    rare: "Из картинок, которые модель знает, лишь {share} менее типичны.",
    strange: "Это не похоже ни на что, что модель знает. Не полагайтесь на ответ.",
  },
};
// The name of a file begins with its label.
const SAMPLES = [
  "digits/3-slanted-pen.png", "digits/2-chalk.webp", "digits/7-palette.gif", "digits/8-slanted-brush.png",
  "digits/6-transparent.png", "digits/4-28-pixels.png",
  "objects/cat-chelsea.jpg", "objects/airplane-drawn.jpg", "objects/frog-drawn.jpg", "objects/bird-drawn.webp",
  "objects/horse-silhouette.png", "objects/truck-drawn.jpg",
];
const RARE = 0.1, STRANGE = 0.01;      // shares of known pictures that are less typical
const PEN = 0.062, STEP = 1 / 28;      // of the side of the drawing area
const SENT_SIDE = 280;                 // pixels of the picture that is sent
const DRAW_MS = 120, SPEAK_MS = 700, LOOK_MS = 2000;

const find = (id) => document.getElementById(id);
const pad = find("pad"), stage = find("stage"), shown = find("shown");
const state = {
  language: "en", models: [], options: new Set(), token: sessionStorage.getItem("token") || "",
  strokes: [], source: null, pending: null, isAsking: false, isGone: false, reply: null, took: 0,
  pen: { x: 0.5, y: 0.5, isDown: false, isShown: false },
};

// Texts

function say(key, values = {}) {
  return TEXTS[state.language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function speak(text) {
  clearTimeout(speak.timer);
  speak.timer = setTimeout(() => { find("live").textContent = text; }, SPEAK_MS);
}

function formatShare(share, digits = 1) {
  if (share > 0 && share < 0.0005) return `<${formatShare(0.001)}`;
  return share.toLocaleString(state.language, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function formatMs(microseconds) {
  const number = microseconds / 1000, digits = number < 10 ? 1 : 0;
  return say("ms", { number: number.toLocaleString(state.language, { minimumFractionDigits: digits, maximumFractionDigits: digits }) });
}

function setLanguage(language) {
  state.language = language;
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  }
  if (state.isGone) find("banner").textContent = say("gone");
  fillLabelLanguages();
  fillSamples();
  showFacts();
  nameSource();
  askAgain();
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// The server

async function request(path, init = {}) {
  const headers = { ...init.headers };
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  let response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch {
    throw Object.assign(new Error("no server"), { isGone: true });
  }
  if (response.ok) return response;
  const status = await response.json().catch(() => ({}));
  throw Object.assign(new Error(status.message || response.statusText), {
    isGone: response.status === 502 || response.status === 503, needsToken: response.status === 401,
    isBusy: response.status === 429,
  });
}

async function call(path, init) {
  return (await request(path, init)).json();
}

function noteFailure(error) {
  if (error.isGone) return noteGone();
  if (error.needsToken) {
    find("token-form").hidden = false;
    return;
  }
  if (error.isBusy) return; // the next stroke asks again
  showProblem(say("failed", { reason: error.message }));
}

function noteGone() {
  if (state.isGone) return;
  state.isGone = true;
  find("banner").textContent = say("gone");
  find("banner").hidden = false;
  find("result").classList.add("stale");
  const timer = setInterval(async () => {
    try {
      await call("/v2/health/ready");
    } catch (error) {
      if (error.isGone) return;
    }
    clearInterval(timer);
    state.isGone = false;
    find("banner").hidden = true;
    find("result").classList.remove("stale");
    speak(say("back"));
    if (state.models.length) askAgain(); else start();
  }, LOOK_MS);
}

async function start() {
  try {
    const [listed, described] = await Promise.all([call("/v1/models"), call("/openapi.json")]);
    const parameters = described.paths["/v1/models/{model}:classify"].parameters;
    state.options = new Set(parameters.map((parameter) => parameter.name));
    state.models = listed.models;
  } catch (error) {
    noteFailure(error);
    return;
  }
  find("token-form").hidden = true;
  fillModels();
}

// Models and languages

function currentModel() {
  return state.models[find("model").selectedIndex];
}

function fillModels() {
  const names = state.models.map(({ name, version }) => {
    const isAlone = state.models.filter((model) => model.name === name).length === 1;
    return make("option", { value: `${name}/${version}`, textContent: isAlone ? name : `${name} ${version}` });
  });
  find("model").replaceChildren(...names);
  if (!names.length) showProblem(say("noModels"));
  changeModel();
}

function changeModel() {
  fillLabelLanguages();
  fillTagline();
  fillSamples();
  showFacts();
  askAgain();
}

function fillLabelLanguages() {
  const model = currentModel();
  if (!model) return;
  const codes = model.labelSets.map((set) => set.languageCode);
  const names = new Intl.DisplayNames([state.language], { type: "language" });
  find("labels").replaceChildren(...codes.map((code) => make("option", { value: code, textContent: names.of(code) })));
  if (codes.includes(state.language)) find("labels").value = state.language;
}

function showFacts() {
  const model = currentModel();
  if (!model) return;
  find("facts").textContent = say(Number(model.testCount) ? "facts" : "unverified", {
    name: model.name, version: model.version, accuracy: formatShare(model.testAccuracy, 2),
    count: model.testCount.toLocaleString(state.language), precision: model.precision, device: model.device,
  });
}

function currentLabels() {
  const sets = currentModel()?.labelSets || [];
  return new Set(sets.flatMap((set) => set.labels).map((label) => label.toLowerCase()));
}

function fillTagline() {
  const labels = currentLabels(), isOfDigits = [..."0123456789"].every((digit) => labels.has(digit));
  find("tagline").dataset.text = isOfDigits ? "taglineDigits" : "tagline";
  find("tagline").textContent = say(find("tagline").dataset.text);
}

function fillSamples() {
  const labels = currentLabels(), fitting = SAMPLES.filter((path) => labels.has(path.match(/\/(\w+)-/)[1]));
  find("samples").replaceChildren(...fitting.map((path) => {
    const name = path.replace(/^.*\/|\.\w+$/g, "").replaceAll("-", " "), url = `/static/samples/${path}`;
    const button = make("button", { type: "button" }, make("img", { src: url, alt: say("sample", { name }), loading: "lazy" }));
    button.setAttribute("aria-pressed", String(state.source?.url === url));
    button.addEventListener("click", () => takeSample(url, name));
    return make("li", {}, button);
  }));
}

// Asking

function ask(blob) {
  state.pending = blob;
  if (!state.isAsking) pump();
}

async function pump() {
  state.isAsking = true;
  while (state.pending) {
    const blob = state.pending;
    state.pending = null;
    try {
      await classify(blob);
    } catch (error) {
      noteFailure(error);
      if (error.isBusy) await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
  state.isAsking = false;
}

async function classify(blob) {
  const model = currentModel(), source = state.source;
  if (!model) return;
  const query = new URLSearchParams({ version: model.version, top_k: 5, language: find("labels").value, return_prepared: true });
  if (state.options.has("return_steps")) query.set("return_steps", "true");
  const startMs = performance.now();
  const reply = await call(`/v1/models/${encodeURIComponent(model.name)}:classify?${query}`, { method: "POST", body: blob });
  if (state.source !== source) return; // it has been cleared meanwhile
  state.took = 1000 * (performance.now() - startMs);
  state.reply = reply;
  showReply();
}

function askAgain() {
  if (state.source) state.source.ask();
}

// Showing

function showProblem(text) {
  find("problem").textContent = text;
  find("problem").hidden = false;
  find("badge").textContent = "";
  find("result").hidden = true;
  find("empty").hidden = true;
}

function showNothing() {
  state.reply = null;
  find("problem").hidden = find("result").hidden = true;
  find("badge").textContent = "";
  find("empty").hidden = false;
}

function showReply() {
  const answer = state.reply.classification, [best] = answer.classes;
  find("problem").hidden = find("empty").hidden = true;
  find("result").hidden = false;
  find("token-form").hidden = true;
  find("best-label").textContent = best.label;
  find("best-label").lang = find("labels").value;
  find("best-share").textContent = formatShare(best.probability);
  find("badge").textContent = `${best.label} ${formatShare(best.probability)}`;
  showBars(answer.classes);
  const sentence = [showFamiliarity(answer.familiarity), showNotes(answer.notes || [])].join(" ");
  showSteps(answer);
  showTimes(answer.timing);
  speak([`${best.label}, ${formatShare(best.probability)}.`, sentence].join(" "));
}

function showBars(classes) {
  const bars = find("bars");
  while (bars.children.length > classes.length) bars.lastChild.remove();
  classes.forEach(({ label, probability }, place) => {
    let row = bars.children[place];
    if (!row) {
      row = make("li", {}, make("span", { className: "name" }),
        make("span", { className: "track" }, make("div", { className: "fill" })), make("span", { className: "share" }));
      bars.append(row);
    }
    row.children[0].textContent = row.children[0].title = label;
    row.children[0].lang = find("labels").value;
    row.querySelector(".fill").style.width = `${100 * probability}%`;
    row.children[2].textContent = formatShare(probability);
  });
}

function showFamiliarity(share) {
  const line = find("familiarity");
  line.hidden = typeof share !== "number";
  if (line.hidden) return "";
  const key = share < STRANGE ? "strange" : share < RARE ? "rare" : "known";
  line.textContent = say(key, { share: formatShare(share) });
  line.classList.toggle("care", key !== "known");
  return line.textContent;
}

function showNotes(notes) {
  const line = find("notes");
  line.textContent = notes.map((note) => TEXTS[state.language][`note_${note}`]).filter(Boolean).join(" ");
  line.hidden = !line.textContent;
  return line.textContent;
}

function showSteps(answer) {
  const before = (answer.steps || []).filter((step) => step.name !== "prepared");
  const [height, width] = currentModel().inputShape, prepared = say("prepared", { width, height });
  const steps = before.map(({ name, png }) => [TEXTS[state.language][`step_${name}`] || name, png]);
  find("steps").replaceChildren(...[...steps, [prepared, answer.preparedPng]].map(([caption, png]) =>
    make("li", {}, make("figure", {},
      make("img", { alt: caption === prepared ? say("seen") : "", src: `data:image/png;base64,${png}` }),
      make("figcaption", { textContent: caption })))));
}

function showTimes(timing) {
  const parts = ["queue", "decode", "prepare", "inference"].map((name) => [name, Number(timing[`${name}Us`])]);
  const sum = parts.reduce((total, [, us]) => total + us, 0), took = Math.max(state.took, sum);
  parts.push(["rest", took - sum]);
  find("total").textContent = formatMs(took);
  find("stack").replaceChildren(...parts.map(([name, us]) => {
    const part = make("div", { className: `of-${name}` });
    part.style.flexGrow = us;
    return part;
  }));
  find("times").replaceChildren(...parts.map(([name, us]) =>
    make("div", { className: `of-${name}` }, make("dt", { textContent: say(name) }), make("dd", { textContent: formatMs(us) }))));
}

// Pictures

function setSource(source) {
  state.source = source;
  const isPicture = Boolean(source && source.url);
  shown.hidden = !isPicture;
  find("name").hidden = true;
  if (isPicture) shown.src = source.url;
  find("hint").hidden = Boolean(source);
  find("undo").disabled = find("clear").disabled = !source;
  for (const button of find("samples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(isPicture && button.firstChild.getAttribute("src") === source.url));
  }
  nameSource();
  if (source) source.ask(); else showNothing();
}

function nameSource() {
  const source = state.source;
  shown.alt = source?.url ? say("chosen", { name: source.name }) : "";
}

function takePicture(blob, name, url = URL.createObjectURL(blob)) {
  forgetDrawing();
  setSource({ url, name, ask: () => ask(blob) });
}

async function takeSample(url, name) {
  try {
    takePicture(await (await request(url)).blob(), name, url);
  } catch (error) {
    noteFailure(error);
  }
}

function forgetDrawing() {
  if (state.source?.url?.startsWith("blob:")) URL.revokeObjectURL(state.source.url);
  state.strokes = [];
  state.pen.isDown = false;
  paint();
}

function clearAll() {
  forgetDrawing();
  setSource(null);
  speak(say("cleared"));
}

function undo() {
  if (state.source?.url) return clearAll();
  state.strokes.pop();
  state.pen.isDown = false;
  paint();
  if (state.strokes.length) drew(); else setSource(null);
}

// Drawing

function trace(context, side, ink) {
  Object.assign(context, { lineWidth: PEN * side, lineCap: "round", lineJoin: "round", strokeStyle: ink, fillStyle: ink });
  for (const points of state.strokes) {
    context.beginPath();
    if (points.length === 1) {
      context.arc(points[0].x * side, points[0].y * side, PEN * side / 2, 0, 2 * Math.PI);
      context.fill();
      continue;
    }
    context.moveTo(points[0].x * side, points[0].y * side);
    for (let at = 1; at < points.length - 1; at++) {
      const { x, y } = points[at], next = points[at + 1];
      context.quadraticCurveTo(x * side, y * side, (x + next.x) / 2 * side, (y + next.y) / 2 * side);
    }
    const last = points[points.length - 1];
    context.lineTo(last.x * side, last.y * side);
    context.stroke();
  }
}

function paint() {
  const context = pad.getContext("2d"), side = pad.width, style = getComputedStyle(document.documentElement);
  context.clearRect(0, 0, side, side);
  trace(context, side, style.getPropertyValue("--ink"));
  const { x, y, isDown, isShown } = state.pen;
  if (!isShown) return;
  context.beginPath();
  context.arc(x * side, y * side, PEN * side / 2, 0, 2 * Math.PI);
  Object.assign(context, { lineWidth: 4, strokeStyle: style.getPropertyValue("--accent"), fillStyle: style.getPropertyValue("--accent") });
  if (isDown) context.fill();
  context.stroke();
}

function drew() {
  if (!state.source || state.source.url) {
    setSource({ name: say("drawn"), ask: sendDrawing });
    return;
  }
  if (!drew.timer) drew.timer = setTimeout(() => { drew.timer = 0; sendDrawing(); }, DRAW_MS);
}

function sendDrawing() {
  if (!state.strokes.length) return;
  const sheet = make("canvas", { width: SENT_SIDE, height: SENT_SIDE }), context = sheet.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SENT_SIDE, SENT_SIDE);
  trace(context, SENT_SIDE, "#000");
  const source = state.source;
  sheet.toBlob((blob) => { if (state.source === source) ask(blob); });
}

function toPoint(event) {
  const box = pad.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
}

function beginDrawing() {
  if (state.source?.url) forgetDrawing();
  shown.hidden = find("name").hidden = true;
}

function listenToPointer() {
  let drawing = null;
  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || drawing !== null) return;
    event.preventDefault();
    pad.setPointerCapture(event.pointerId);
    drawing = event.pointerId;
    state.pen.isShown = state.pen.isDown = false;
    beginDrawing();
    state.strokes.push([toPoint(event)]);
    paint();
    drew();
  });
  pad.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drawing) return;
    const events = event.getCoalescedEvents?.() ?? [];
    state.strokes[state.strokes.length - 1]?.push(...(events.length ? events : [event]).map(toPoint));
    paint();
    drew();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    pad.addEventListener(name, (event) => { if (event.pointerId === drawing) drawing = null; });
  }
}

function movePen(dx, dy) {
  const { pen } = state, limit = (value) => Math.min(1 - PEN / 2, Math.max(PEN / 2, value));
  pen.x = limit(pen.x + dx);
  pen.y = limit(pen.y + dy);
  if (pen.isDown) {
    state.strokes[state.strokes.length - 1].push({ x: pen.x, y: pen.y });
    drew();
  }
  paint();
}

function switchPen() {
  const { pen } = state;
  pen.isDown = !pen.isDown;
  speak(say(pen.isDown ? "penDown" : "penUp"));
  if (pen.isDown) {
    beginDrawing();
    pen.isDown = true;
    state.strokes.push([{ x: pen.x, y: pen.y }]);
    drew();
  }
  paint();
}

function listenToKeys() {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  pad.addEventListener("keydown", (event) => {
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
    const step = STEP * (event.shiftKey ? 4 : 1), move = moves[event.key];
    if (!isPlain && !(event.key === "z" && !event.altKey)) return;
    if (move) movePen(step * move[0], step * move[1]);
    else if (event.key === " ") switchPen();
    else if (event.key.toLowerCase() === "z" || event.key === "Backspace") undo();
    else if (event.key === "Escape") clearAll();
    else return;
    event.preventDefault();
  });
  pad.addEventListener("focus", () => { state.pen.isShown = pad.matches(":focus-visible"); paint(); });
  pad.addEventListener("blur", () => { state.pen.isShown = state.pen.isDown = false; paint(); });
}

function listenToFiles() {
  const takeFirst = (files) => {
    const file = [...files].find((each) => each.type.startsWith("image/")) || files[0];
    if (file) takePicture(file, file.name);
    return Boolean(file);
  };
  find("choose").addEventListener("click", () => find("file").click());
  find("file").addEventListener("change", (event) => { takeFirst(event.target.files); event.target.value = ""; });
  document.addEventListener("paste", (event) => { if (takeFirst(event.clipboardData.files)) event.preventDefault(); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("drop"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) stage.classList.remove("drop"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("drop");
    takeFirst(event.dataTransfer.files);
  });
  shown.addEventListener("error", () => { // the browser cannot show it; the server may know it all the same
    if (!state.source?.url) return;
    shown.hidden = true;
    find("name").textContent = state.source.name;
    find("name").hidden = false;
  });
  shown.addEventListener("load", () => stage.classList.toggle("small", shown.naturalWidth < 100));
}

function listen() {
  listenToPointer();
  listenToKeys();
  listenToFiles();
  find("undo").addEventListener("click", undo);
  find("clear").addEventListener("click", clearAll);
  find("model").addEventListener("change", changeModel);
  find("labels").addEventListener("change", askAgain);
  find("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    state.token = find("token").value.trim();
    sessionStorage.setItem("token", state.token);
    if (state.models.length) askAgain(); else start();
  });
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => {
      localStorage.setItem("language", button.dataset.language);
      setLanguage(button.dataset.language);
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
}

listen();
const wanted = localStorage.getItem("language") || navigator.language;
setLanguage(wanted.startsWith("ru") ? "ru" : "en");
start();
