"use strict";
// The first tab: a recording is uploaded or recorded, denoised with the chosen options, and heard.

const data = JSON.parse(document.getElementById("page-data").textContent);
const byId = (identifier) => document.getElementById(identifier);
const form = byId("options");
const POLL_MILLISECONDS = 500, RETRY_MILLISECONDS = 2000;
const shown = new Map();  // job id -> its card
let upload = null;  // the recording that the options are for
let recorder = null;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function clock(seconds) {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (parts[0] ? parts : parts.slice(1))
    .map((part, place) => String(part).padStart(place ? 2 : 1, "0")).join(":");
}

// ---- The recording ----------------------------------------------------------------------------
function tell(words = "", error = "", share = null) {
  byId("source-state").textContent = words;
  byId("source-error").textContent = error;
  byId("source-progress").hidden = share === null;
  if (share !== null) byId("source-progress").value = share;
}

// XMLHttpRequest, as fetch does not tell how much of a body is sent.
function send(file, name) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/uploads?name=${encodeURIComponent(name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = ({loaded, total}) =>
      tell(`Uploading ${name} ...`, "", total ? loaded / total : 0);
    request.onerror = () => reject(new Error("The upload was cut off. Is the server " +
      "still running, and this device connected? Then choose the file again."));
    request.onload = () => {
      let values = null;
      try { values = JSON.parse(request.responseText); } catch { /* the text is the message */ }
      if (request.status === 201) resolve(values);
      else reject(new Error(values?.error ?? (request.responseText || `Error ${request.status}`)));
    };
    request.send(file);
  });
}

// Makes an upload the one that the options are for.
function choose(chosen) {
  upload = chosen;
  const {name, seconds, sample_rate: rate, channels} = upload;
  const count = channels === 1 ? "mono" : channels === 2 ? "stereo" : `${channels} channels`;
  byId("chosen").textContent =
    `${name}: ${seconds ? clock(seconds) : "length unknown"}, ${rate / 1000} kHz, ${count}`;
  byId("denoise").disabled = false;
}

async function take(action) {
  tell("One moment ...");
  try {
    choose(await action());
    tell();
    await denoise();
  } catch (error) {
    tell("", error.message);
  }
}

function takeFile(file, name = file.name) {
  if (file.size > data.max_bytes) {
    tell("", `${name}: larger than ${data.max_megabytes} MB, the limit of this page; ` +
      "cut it, or use gan-denoise denoise, which has none");
    return;
  }
  take(() => send(file, name));
}

byId("file").addEventListener("change", ({target}) => {
  if (target.files.length) takeFile(target.files[0]);
  target.value = "";  // the same file may be chosen again
});
byId("example").addEventListener("click", () =>
  take(() => ask("POST", "/api/uploads/example")));

const drop = byId("drop");
for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, (event) => {
  event.preventDefault();
  drop.classList.remove("over");
});
drop.addEventListener("drop", ({dataTransfer}) => {
  if (dataTransfer.files.length) takeFile(dataTransfer.files[0]);
});

// ---- The microphone ---------------------------------------------------------------------------
const TYPES = {"audio/webm;codecs=opus": "webm", "audio/ogg;codecs=opus": "ogg",
               "audio/mp4": "mp4"};

const REFUSALS = {
  NotAllowedError: "it is not allowed to this page. Allow it beside the page's address, then press Record again.",
  NotFoundError: "there is none. Connect one and press Record again, or choose a file.",
  NotReadableError: "another program has it. End that, then press Record again.",
};

async function record() {
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
    throw new Error("This browser gives no microphone here: it asks for https, or for an " +
      "address of this machine such as localhost.");
  }
  // The browser's own noise suppression would leave nothing to do.
  const stream = await navigator.mediaDevices.getUserMedia({audio:
    {echoCancellation: false, noiseSuppression: false, autoGainControl: false}});
  const type = Object.keys(TYPES).find((name) => MediaRecorder.isTypeSupported(name));
  recorder = new MediaRecorder(stream, type ? {mimeType: type} : {});
  const parts = [], began = performance.now();
  const timer = setInterval(() => {
    const seconds = (performance.now() - began) / 1000;
    tell(`Recording: ${clock(seconds)}`);
    if (seconds > 60 * data.max_minutes - 1) recorder?.stop();
  }, 250);
  recorder.ondataavailable = ({data: part}) => part.size && parts.push(part);
  recorder.onstop = () => {
    clearInterval(timer);
    stream.getTracks().forEach((track) => track.stop());
    const suffix = TYPES[type] ?? "webm";
    recorder = null;
    byId("record").textContent = "Record";
    byId("record").removeAttribute("aria-pressed");
    takeFile(new Blob(parts), `recording.${suffix}`);
  };
  recorder.start(1000);
  byId("record").textContent = "Stop";
  byId("record").setAttribute("aria-pressed", "true");
  tell("Recording: 0:00");
}

byId("record").addEventListener("click", () => {
  if (recorder) recorder.stop();
  else record().catch((error) => tell("",
    `The microphone cannot be used: ${REFUSALS[error.name] ?? error.message}`));
});

// ---- Options ----------------------------------------------------------------------------------
const OPTIONS = ["strength", "atten_lim_db", "channels", "peak_guard"];  // that presets have
const DEFAULTS = {strength: 1, atten_lim_db: "", channels: "keep", peak_guard: false};

function showStrength() { form.querySelector("output").value = form.elements.strength.value; }

form.elements.preset.addEventListener("change", ({target}) => {
  const values = {...DEFAULTS, ...data.presets[target.value]};
  for (const name of OPTIONS) {
    const field = form.elements[name];
    if (field.type === "checkbox") field.checked = values[name];
    else field.value = values[name];
  }
  showStrength();
});
form.elements.strength.addEventListener("input", showStrength);
showStrength();

function chosenOptions() {
  const limit = form.elements.atten_lim_db.value;
  return {
    model: form.elements.model.value, preset: form.elements.preset.value || null,
    strength: Number(form.elements.strength.value),
    atten_lim_db: limit === "" ? null : Number(limit),
    inversion: form.elements.inversion.value || null, channels: form.elements.channels.value,
    format: form.elements.format.value, peak_guard: form.elements.peak_guard.checked,
  };
}

// ---- Jobs -------------------------------------------------------------------------------------
async function denoise() {
  try {
    const job = await ask("POST", "/api/jobs", {upload: upload.id, ...chosenOptions()});
    show(job);
    byId("results").firstElementChild.scrollIntoView({block: "nearest"});
    tell();
  } catch (error) {
    tell("", error.message);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (upload) denoise();
});

function describe(choice) {
  const words = [choice.model];
  if (choice.preset) words.push(`preset ${choice.preset}`);
  words.push(`strength ${choice.strength ?? 1}`);
  if (choice.atten_lim_db !== null && choice.atten_lim_db !== undefined) {
    words.push(`at most ${choice.atten_lim_db} dB`);
  }
  if (choice.inversion) words.push(choice.inversion);
  if (choice.channels && choice.channels !== "keep") words.push(choice.channels);
  if (choice.format && choice.format !== "keep") words.push(choice.format);
  return words.join(", ");
}

function makeCard(job) {
  const card = element("article", {className: "result"});
  card.state = element("p", {role: "status"});
  card.bar = element("progress", {max: 1, value: 0});
  card.bar.setAttribute("aria-label", `Progress of ${job.upload.name}`);
  card.button = element("button", {type: "button", textContent: "Cancel"});
  card.button.addEventListener("click", () => ask("DELETE", `/api/jobs/${job.id}`)
    .then(() => poll(job.id)).catch((error) => { card.state.textContent = error.message; }));
  card.heading = element("h3", {textContent: job.upload.name, tabIndex: -1});
  card.append(card.heading,
              element("p", {className: "note", textContent: describe(job.choice)}),
              card.state, card.bar, element("p", {}, card.button));
  byId("results").prepend(card);
  byId("none").hidden = true;
  shown.set(job.id, card);
  return card;
}

// A button that goes leaves whoever used it at its recording, not at the page's beginning.
function releaseButton(card) {
  if (document.activeElement === card.button) card.heading.focus();
}

function stateWords(job) {
  if (job.state === "waiting") {
    return job.position > 1 ? `Waiting: ${job.position - 1} before you` : "Waiting: you are next";
  }
  if (job.state === "running") {
    if (job.seconds_done === undefined) return "Beginning ...";
    const part = `${clock(job.seconds_done)} of ${clock(job.upload.seconds)}`;
    const left = job.remaining === null ? "" : `, about ${clock(job.remaining)} left`;
    return `${part} at ${Math.round(job.speed)} times real time${left}`;
  }
  if (job.state === "cancelled") return "Cancelled";
  return job.error;
}

// Shows how far a job is, and asks again until it has ended.
function show(job) {
  const card = shown.get(job.id) ?? makeCard(job);
  if (job.state === "done") {
    finish(card, job);
    return;
  }
  card.state.textContent = stateWords(job);
  card.state.classList.toggle("bad", job.state === "failed");
  const active = job.state === "waiting" || job.state === "running";
  if (!active) releaseButton(card);
  card.bar.hidden = card.button.parentElement.hidden = !active;
  card.bar.value = job.share ?? 0;
  if (active) setTimeout(() => poll(job.id), POLL_MILLISECONDS);
}

async function poll(identifier) {
  try {
    show(await ask("GET", `/api/jobs/${identifier}`));
  } catch (error) {
    const card = shown.get(identifier);
    if (!card) return;
    card.state.textContent = error.message;
    if (error.status === undefined) {  // it may be there again in a moment
      setTimeout(() => poll(identifier), RETRY_MILLISECONDS);
    } else {
      card.state.classList.add("bad");
      releaseButton(card);
      card.bar.hidden = card.button.parentElement.hidden = true;
    }
  }
}

function finish(card, job) {
  const {figures} = job;
  const words = [clock(figures.seconds)];
  if (figures.noise_floor_drop_db !== null) {
    words.push(`noise floor ${figures.noise_floor_drop_db.toFixed(1)} dB lower`);
  }
  if (figures.clipped) words.push(`${figures.clipped} samples clipped`);
  if (figures.elapsed) words.push(`took ${figures.elapsed.toFixed(1)} s`);
  card.state.textContent = words.join("; ");
  card.bar.remove();
  releaseButton(card);
  card.button.parentElement.remove();
  for (const note of [figures.cut_off && `Cut off: ${figures.cut_off}`, figures.note,
                      figures.lost.length && `Not kept: ${figures.lost.join(", ")}`]) {
    if (note) card.append(element("p", {className: "note", textContent: note}));
  }
  const address = `/api/jobs/${job.id}`;
  card.append(element("p", {className: "line"},
    element("a", {className: "button primary", href: `${address}/result`,
                  textContent: `Download ${job.names.result}`, download: job.names.result}),
    element("a", {className: "button", href: `${address}/removed`,
                  textContent: "Download what was removed", download: job.names.removed})));
  const place = element("div", {className: "preview"});
  card.append(place);
  showPreview(place, address, 0);
}

// A long recording is heard in parts; the part is chosen by its time.
async function showPreview(place, address, window) {
  let preview;
  try {
    preview = await ask("GET", `${address}/previews/${window}`);
  } catch (error) {
    place.replaceChildren(element("p", {className: "bad", textContent: error.message}));
    return;
  }
  const children = [];
  if (preview.windows > 1) {
    const choice = element("select");
    for (let part = 0; part < preview.windows; part += 1) {
      choice.append(element("option", {value: part, selected: part === window,
                                       textContent: clock(part * data.window_seconds)}));
    }
    choice.addEventListener("change", async () => {
      await showPreview(place, address, Number(choice.value));
      place.querySelector("select")?.focus();
    });
    children.push(element("p", {className: "line"},
      element("label", {}, "Listen from ", choice),
      element("span", {className: "note", textContent: `${Math.round(preview.seconds)} seconds`})));
  }
  place.querySelector(".player")?.player?.pause();
  place.innerHTML = preview.player;
  place.prepend(...children);
  bindPlayer(place.querySelector(".player"));
}

// ---- The session ------------------------------------------------------------------------------
byId("forget").addEventListener("click", async () => {
  try {
    await ask("DELETE", "/api/session");
    Player.current?.pause();
    byId("results").replaceChildren();
    shown.clear();
    upload = null;
    byId("denoise").disabled = true;
    byId("chosen").textContent = "";
    byId("none").hidden = false;
    tell("Your files are deleted.");
  } catch (error) {
    tell("", error.message);
  }
});

// A page that is loaded again goes on with the recording that was denoised last.
ask("GET", "/api/jobs").then((jobs) => {
  jobs.forEach(show);
  if (jobs.length && !upload) choose(jobs.at(-1).upload);
}).catch((error) => tell("", error.message));
