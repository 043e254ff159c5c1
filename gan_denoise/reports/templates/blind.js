"use strict";
// The blind test: trials of two systems as A and B in random order, by the sounds of the players of
// the page; the result says the preferences and how likely they are by chance (sign test).
function blindTest(area, data) {
  const find = (name) => area.querySelector(`.blind-${name}`);
  const [start, trial, result, progress, stage] =
    ["start", "trial", "result", "progress", "player"].map(find);
  let systems, trials, answers;

  function begin() {
    systems = [find("one").value, find("other").value];
    find("problem").textContent = systems[0] === systems[1] ? "Choose two different systems." : "";
    if (systems[0] === systems[1]) return;
    trials = shuffled(data.recordings).slice(0, data.trials).map((recording) =>
      ({recording, order: shuffled(systems)}));
    answers = [];
    start.hidden = result.hidden = true;
    trial.hidden = false;
    next();
  }

  function next() {
    Player.current?.pause();
    if (answers.length === trials.length) return finish();
    const {recording, order} = trials[answers.length];
    const known = players.get(recording.id).tracks;
    const element = document.getElementById("blind-template").content.cloneNode(true).firstElementChild;
    const buttons = element.querySelectorAll(".player-track");
    order.forEach((system, number) => {
      const {audio, gain} = known[recording.tracks[system]];
      Object.assign(buttons[number].dataset, {audio, gain});
    });
    players.delete(element.id);
    stage.replaceChildren(element);
    bindPlayer(element);
    progress.textContent = `Trial ${answers.length + 1} of ${trials.length}`;
    element.focus();
  }

  function answer(choice) {
    if (choice === "stop") return finish();
    const {order} = trials[answers.length];
    answers.push({a: order[0], b: order[1], none: null}[choice]);
    next();
  }

  function finish() {
    Player.current?.pause();
    stage.replaceChildren();
    trial.hidden = true;
    start.hidden = result.hidden = false;
    const counts = systems.map((system) => answers.filter((found) => found === system).length);
    const none = answers.length - counts[0] - counts[1];
    const lines = [
      `${systems[0]}: preferred ${counts[0]} of ${answers.length} times`,
      `${systems[1]}: preferred ${counts[1]} of ${answers.length} times`,
      `no difference: ${none}`,
      verdict(counts),
    ];
    const rows = answers.map((found, number) =>
      `${trials[number].recording.name}: ${found ?? "no difference"}`);
    result.replaceChildren(heading("Result"), list("ul", lines), list("ol", rows));
    result.focus();
  }

  function verdict(counts) {
    const p = signTest(...counts);
    if (counts[0] + counts[1] === 0) return "No preference was given.";
    const chance = `so clear a result comes by chance in ${Number((100 * p).toPrecision(2))} % of tests`;
    return p <= 0.05 ? `A preference beyond chance: ${chance}.` : `Not beyond chance: ${chance}.`;
  }

  find("begin").addEventListener("click", begin);
  trial.querySelectorAll("[data-choice]").forEach((button) =>
    button.addEventListener("click", () => answer(button.dataset.choice)));
}

// Two-sided p of a split of preferences where either is as likely.
function signTest(one, other) {
  const total = one + other;
  let term = 0.5 ** total, sum = 0;
  for (let k = 0; k <= Math.min(one, other); k += 1) {
    sum += term;
    term *= (total - k) / (k + 1);
  }
  return Math.min(1, 2 * sum);
}

function shuffled(items) {
  const left = [...items];
  for (let last = left.length - 1; last > 0; last -= 1) {
    const other = Math.floor(Math.random() * (last + 1));
    [left[last], left[other]] = [left[other], left[last]];
  }
  return left;
}

function heading(text) { return Object.assign(document.createElement("h3"), {textContent: text}); }

function list(kind, texts) {
  const element = document.createElement(kind);
  element.append(...texts.map((text) => Object.assign(document.createElement("li"), {textContent: text})));
  return element;
}

blindTest(document.getElementById("blind-test"),
          JSON.parse(document.getElementById("blind-data").textContent));
