"use strict";
// The training tab: a run is chosen, started, watched, stopped, resumed and exported.

const byId = (identifier) => document.getElementById(identifier);
const form = byId("new");
const POLL_MILLISECONDS = 1000;
const TRAINING = "/api/training";
let shownRun = null;  // whose curves are on the page
let listed = new Set();  // names of the runs that have a state
let clipStep = -1;  // of the clips on the page
let lastState = null;
let refusal = "";  // why the last button did nothing

const runAddress = (name) => `${TRAINING}/runs/${encodeURIComponent(name)}`;

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return whole < 3600 ? `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")} min`
    : `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
}

// ---- A new run --------------------------------------------------------------------------------
function showFields() {
  const {kind, data} = form.elements;
  form.querySelectorAll("[data-kind]").forEach((part) => { part.hidden = part.dataset.kind !== kind.value; });
  form.querySelectorAll("[data-source]").forEach((part) => {
    part.hidden = part.dataset.source !== data.value;
  });
}

function suggestName() {
  const now = new Date(), two = (number) => String(number).padStart(2, "0");
  form.elements.name.value = `run-${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}` +
    `-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
}

async function listFolders() {
  const folders = await ask("GET", `${TRAINING}/folders`);
  const words = ({name, files}) => `${name} (${files} ${files === 1 ? "file" : "files"})`;
  form.querySelectorAll("fieldset[data-key]").forEach((part) => {
    part.querySelector(".choices").replaceChildren(...folders.map((folder) => {
      const label = document.createElement("label"), box = document.createElement("input");
      Object.assign(box, {type: "checkbox", value: folder.name, name: `folder-${part.dataset.key}`});
      label.append(box, words(folder));
      return label;
    }));
  });
  form.querySelectorAll("select[data-key]").forEach((part) => {
    part.replaceChildren(...folders.map((folder) => new Option(words(folder), folder.name)));
  });
}

function choice() {
  const {name, kind, data, init, minutes, steps} = form.elements;
  const values = {name: name.value, kind: kind.value, data: data.value,
                  config: form.elements[`config-${kind.value}`].value};
  if (kind.value === "finetune") values.init = init.value;
  if (minutes.value) values.minutes = Number(minutes.value);
  if (steps.value) values.steps = Number(steps.value);
  form.querySelectorAll(`[data-source="${data.value}"] [data-key]`).forEach((part) => {
    values[part.dataset.key] = part.matches("select") ? [part.value]
      : [...part.querySelectorAll("input:checked")].map((box) => box.value);
  });
  return values;
}

form.addEventListener("change", showFields);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("new-error").textContent = "";
  try {
    const values = choice();
    await ask("POST", TRAINING, values);
    showRun(values.name);
    suggestName();
    byId("run-title").focus();
    await refresh();
  } catch (error) {
    byId("new-error").textContent = error.message;
  }
});

// ---- The current run --------------------------------------------------------------------------
function stateWords(status) {
  const {state, run, progress, outcome, words} = status;
  const step = progress.step === undefined ? "" :
    `, step ${progress.step}${progress.total_steps ? ` of ${progress.total_steps}` : ""}`;
  if (state === "training") return `Training ${run}${step || ": getting ready"}`;
  if (state === "stopping") return `Stopping ${run}${step}: saves its state`;
  if (state === "exporting") return `Exporting ${run} ...`;
  if (!outcome) return "Nothing is being trained.";
  if (outcome === "failed") return `${run} ended with an error.`;
  return outcome === "stopped" ? `${run} was stopped${step}; it can be resumed.` : `${run}: ${words}`;
}

function figureWords({losses, seconds_left: left, audio_speed: speed}) {
  const words = Object.entries(losses ?? {}).map(([name, value]) =>
    `${name.replace("loss/", "")} ${value.toPrecision(3)}`);
  if (speed) words.push(`${Math.round(speed)} seconds of audio a second`);
  if (left) words.push(`about ${duration(left)} left`);
  return words.join(" · ");
}

function showStatus(status) {
  const {state, run, progress, outcome, words} = status;
  const active = state !== "idle";
  byId("state").textContent = stateWords(status);
  byId("figures").textContent = active ? figureWords(progress) : "";
  byId("run-error").textContent = refusal || (!active && outcome === "failed" ? words : "");
  const bar = byId("progress");
  bar.hidden = !active;
  if (progress.total_steps) bar.value = progress.step / progress.total_steps;
  else bar.removeAttribute("value");
  const stoppable = state === "training" || state === "stopping";
  if (!stoppable && document.activeElement === byId("stop")) byId("run-title").focus();
  byId("stop").hidden = !stoppable;
  byId("stop").textContent = state === "stopping" ? "Stop at once" : "Stop";
  byId("start").disabled = active;
  const exported = !active && outcome === "done" && words.startsWith("model ");
  byId("try").hidden = !exported;
  if (exported) byId("try").href = `/?model=${encodeURIComponent(words.slice(6))}`;
  const log = byId("log"), lines = status.log.join("\n");
  if (log.textContent !== lines) {
    log.textContent = lines;
    log.scrollTop = log.scrollHeight;
  }
  byId("command").textContent = status.command;
  byId("log-part").hidden = !run;
  if (active && state !== "exporting" && shownRun !== run) showRun(run);
}

byId("stop").addEventListener("click", () => act(`${TRAINING}/stop`));

async function act(address, values) {
  refusal = "";
  try {
    await ask("POST", address, values);
    await refresh();
  } catch (error) {
    byId("run-error").textContent = refusal = error.message;
    byId("run-title").focus();  // the buttons are far below
  }
}

// ---- Curves and clips -------------------------------------------------------------------------
function showRun(name) {
  if (name === shownRun) return;
  shownRun = name;
  clipStep = -1;
  byId("shown-run").textContent = `of ${name}`;
  byId("charts").replaceChildren();
  byId("clips").replaceChildren();
  byId("no-curves").hidden = false;
}

async function showCurves() {
  if (!listed.has(shownRun)) return;  // it has no state yet, and may never have one
  const name = shownRun;
  const {charts, clips, clip_step: step} = await ask("GET", `${runAddress(name)}/curves`);
  if (name !== shownRun) return;
  byId("no-curves").hidden = charts.length > 0;
  byId("charts").replaceChildren(...charts.map(drawChart));
  const place = byId("clips");
  // What plays, or is about to, is not taken away.
  if (!clips || step === clipStep || place.querySelector(".player")?.player?.wanted) return;
  clipStep = step;
  const chosen = Number(place.querySelector("select")?.value ?? 0);
  const select = document.createElement("select");
  for (let clip = 0; clip < clips; clip += 1) {
    select.append(new Option(String(clip + 1), clip, false, clip === chosen));
  }
  const label = document.createElement("label"), line = document.createElement("p");
  label.append("Validation clip ", select);
  line.append(label, ` at step ${step}`);
  const player = document.createElement("div");
  const heard = () => place.querySelector(".player")?.player?.selected ?? 0;
  const before = heard(), focused = document.activeElement;
  const choosing = place.contains(focused) && focused.matches("select");
  const listening = place.contains(focused) && !choosing;
  place.replaceChildren(line, player);
  if (choosing) select.focus();
  select.addEventListener("change", () => {
    const kept = heard();
    place.querySelector(".player")?.player?.pause();
    showClip(player, name, Number(select.value), kept);
  });
  await showClip(player, name, chosen, before);
  if (listening && document.activeElement === document.body) {
    player.querySelector(".player")?.focus({preventScroll: true});
  }
}

async function showClip(place, name, clip, heard = 0) {
  try {
    const {player} = await ask("GET", `${runAddress(name)}/clips/${clip}`);
    place.innerHTML = player;
    const element = place.querySelector(".player");
    players.delete(element.id);  // the clip as an earlier validation left it
    bindPlayer(element).select(heard);
  } catch (error) {
    place.textContent = error.message;
  }
}

// ---- Runs -------------------------------------------------------------------------------------
function runRow(run, active) {
  const row = document.createElement("tr"), name = document.createElement("th");
  name.scope = "row";
  name.textContent = run.name;
  const cells = [run.kind, `${run.step}${run.total_steps ? ` of ${run.total_steps}` : ""}`, ""]
    .map((text) => Object.assign(document.createElement("td"), {textContent: text}));
  cells[1].className = "number";
  row.setAttribute("role", "row");  // on a phone its style makes it no row of a table
  name.setAttribute("role", "rowheader");
  cells.forEach((cell) => cell.setAttribute("role", "cell"));
  const button = (text, action, off = false) => {
    const made = Object.assign(document.createElement("button"), {type: "button", textContent: text,
                                                                  disabled: off});
    made.setAttribute("aria-label", `${text} ${run.name}`);
    made.addEventListener("click", action);
    cells[2].append(made);
  };
  button("Show", () => { showRun(run.name); byId("curves-title").focus(); showCurves(); });
  if (run.finished) cells[2].append(moreMinutes(run, active));
  else button("Resume", () => act(`${runAddress(run.name)}/resume`), active);
  if (run.has_best) button(run.exported ? "Export again" : "Export",
                           () => act(`${runAddress(run.name)}/export`), active);
  row.append(name, ...cells);
  return row;
}

// A finished run goes on for as many minutes as are given.
function moreMinutes(run, active) {
  const more = document.createElement("form"), label = document.createElement("label");
  const field = Object.assign(document.createElement("input"),
    {type: "number", min: 0.1, max: 10080, step: "any", value: 10, required: true, disabled: active});
  const button = Object.assign(document.createElement("button"),
    {type: "submit", textContent: "Train on", disabled: active});
  field.setAttribute("aria-label", `Minutes more for ${run.name}`);
  button.setAttribute("aria-label", `Train on ${run.name}`);
  more.className = "more";
  label.append(field, " min");
  more.append(label, button);
  more.addEventListener("submit", (event) => {
    event.preventDefault();
    act(`${runAddress(run.name)}/extend`, {minutes: Number(field.value)});
  });
  return more;
}

function showRuns(status) {
  const state = JSON.stringify([status.state, status.runs]);
  if (state === lastState) return;  // a focused button stays
  lastState = state;
  byId("no-runs").hidden = status.runs.length > 0;
  const used = byId("runs").contains(document.activeElement) &&
    document.activeElement.getAttribute("aria-label");
  byId("runs").replaceChildren(...status.runs.map((run) => runRow(run, status.state !== "idle")));
  if (used) {  // whoever goes by keyboard stays there, or where it is said what goes on
    const again = [...byId("runs").querySelectorAll(":enabled")]
      .find((field) => field.getAttribute("aria-label") === used);
    (again ?? byId("run-title")).focus();
  }
  if (shownRun === null && status.runs.length) showRun(status.runs[0].name);
  const known = new Set([...form.elements.init.options].map((option) => option.value));
  for (const {name, has_best: best} of status.runs) {
    if (best && !known.has(`run ${name}`)) form.elements.init.append(new Option(`run ${name}`));
  }
}

async function refresh() {
  const status = await ask("GET", TRAINING);
  listed = new Set(status.runs.map((run) => run.name));
  showStatus(status);
  showRuns(status);
  await showCurves();
}

async function watch() {
  try {
    if (!document.hidden) await refresh();
  } catch (error) {
    byId("state").textContent = error.message;
  }
  setTimeout(watch, POLL_MILLISECONDS);
}

suggestName();
showFields();
listFolders().catch((error) => { byId("new-error").textContent = error.message; });
watch();
