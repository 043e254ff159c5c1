"use strict";
// Players of several tracks that run together: all of a player's sounds start at the same moment on
// one clock (Web Audio) and all but one have the gain 0, so that a switch keeps the position to the
// sample. Sounds are decoded when a player is first used. `players` holds them by their element's id.
const players = new Map();

class Player {
  static context = null;
  static current = null;  // the player that was used last; keys are for it
  static FADE = 0.008;  // seconds of a switch: no click, and far below 50 ms

  // tracks: [{audio: data URI or address, gain: factor}]; changed: called when anything changes.
  constructor(tracks, changed = () => {}) {
    Object.assign(this, {tracks, changed, selected: 0, playing: false, from: 0, started: 0,
                         duration: 0, loading: null, buffers: null, voices: []});
  }

  // Decodes all tracks once; a sound that cannot be played rejects with its reason.
  load() {
    Player.context ??= new AudioContext({latencyHint: "interactive"});
    this.loading ??= Promise.all(this.tracks.map(async (track) =>
      Player.context.decodeAudioData(await bytesOf(track.audio)))).then((buffers) => {
      this.buffers = buffers;
      this.duration = Math.max(...buffers.map((buffer) => buffer.duration));
    });
    return this.loading;
  }

  get position() {
    if (!this.playing) return this.from;
    const passed = Math.max(0, Player.context.currentTime - this.started);
    return Math.min(this.from + passed, this.duration);
  }

  async play() {
    if (Player.current && Player.current !== this) Player.current.pause();
    Player.current = this;
    this.wanted = true;
    await this.load();
    await Player.context.resume();
    if (!this.wanted || this.playing) return;
    if (this.from >= this.duration - 0.01) this.from = 0;
    this.started = Player.context.currentTime + 0.02;
    this.voices = this.buffers.map((buffer, number) => this.voice(buffer, number));
    this.playing = true;
    this.changed();
  }

  voice(buffer, number) {
    const source = new AudioBufferSourceNode(Player.context, {buffer});
    const gain = new GainNode(Player.context, {gain: this.gainOf(number)});
    source.connect(gain).connect(Player.context.destination);
    source.start(this.started, Math.min(this.from, buffer.duration));
    return {source, gain};
  }

  gainOf(number) { return number === this.selected ? this.tracks[number].gain : 0; }

  pause() {
    this.wanted = false;
    if (!this.playing) return;
    this.from = this.position;
    this.playing = false;
    for (const {source} of this.voices) source.stop();
    this.voices = [];
    this.changed();
  }

  toggle() { return this.playing ? this.pause() : this.play(); }

  select(number) {
    if (number < 0 || number >= this.tracks.length) return;
    this.selected = number;
    this.voices.forEach(({gain}, other) =>
      gain.gain.setTargetAtTime(this.gainOf(other), Player.context.currentTime, Player.FADE / 3));
    this.changed();
  }

  async seek(seconds) {
    const was = this.playing;
    this.pause();
    await this.load();
    this.from = Math.min(Math.max(seconds, 0), this.duration);
    this.changed();
    if (was && this.from < this.duration) await this.play();
  }

  // Called on each frame: what has played to its end stops there.
  tick() {
    if (!this.playing || this.position < this.duration) return;
    this.pause();
    this.from = this.duration;
    this.changed();
  }
}

async function bytesOf(address) {
  if (!address.startsWith("data:")) {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error("the server does not have it any more");
    return answer.arrayBuffer();
  }
  const text = atob(address.slice(address.indexOf(",") + 1));
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
}

// Binds a player to the element that the template made; to call for elements that come later.
function bindPlayer(element) {
  if (players.has(element.id)) return players.get(element.id);
  const find = (name) => element.querySelector(`.player-${name}`);
  const buttons = [...element.querySelectorAll(".player-track")];
  const [play, slider, time, status, pictures] =
    ["play", "position", "time", "status", "pictures"].map(find);
  const player = new Player(buttons.map((button) => (
    {audio: button.dataset.audio, gain: Number(button.dataset.gain)})), show);
  players.set(element.id, player);

  function follow() {
    player.tick();
    const {position, duration} = player;
    const share = duration ? position / duration : 0;
    slider.value = position;
    if (pictures) find("cursor").style.left = `${100 * share}%`;
    const words = duration ? `${position.toFixed(1)} of ${duration.toFixed(1)} s` : "0.0 s";
    if (time.value !== words) {
      time.value = words;
      slider.setAttribute("aria-valuetext", words);
    }
    if (player.playing) requestAnimationFrame(follow);
  }

  function show() {
    slider.max = player.duration || 1;
    element.classList.toggle("playing", player.playing);
    play.setAttribute("aria-label", player.playing ? "Pause" : "Play");
    buttons.forEach((button, number) =>
      button.setAttribute("aria-pressed", String(number === player.selected)));
    element.querySelectorAll("figure[data-track]").forEach((figure) =>
      figure.classList.toggle("heard", Number(figure.dataset.track) === player.selected));
    const heard = buttons[player.selected].textContent.replace(/^\s*\d+\s*/, "");
    status.textContent = `${heard}, ${player.playing ? "playing" : "paused"}`;
    follow();
  }

  const use = (action) => Promise.resolve(action()).catch((error) => {
    status.classList.remove("hidden");
    status.textContent = `This sound cannot be played here (${error.message}).`;
  });
  const current = () => {
    if (Player.current !== player) Player.current?.pause();
    Player.current = player;
  };
  play.addEventListener("click", () => use(() => player.toggle()));
  buttons.forEach((button, number) => button.addEventListener("click", () => {
    current();
    player.select(number);
  }));
  slider.addEventListener("input", () => use(() => player.seek(Number(slider.value))));
  pictures?.addEventListener("click", (event) => use(async () => {
    current();
    await player.load();
    const {left, width} = pictures.getBoundingClientRect();
    await player.seek(player.duration * (event.clientX - left) / width);
  }));
  element.addEventListener("focusin", current);
  element.player = player;
  player.use = use;
  buttons.length && element.querySelector("figure[data-track]")?.classList.add("heard");
  return player;
}

// Keys of the player that was used last; typing into a field and the browser's own keys stay.
function pressed(event) {
  const player = Player.current;
  if (!player?.use || event.ctrlKey || event.altKey || event.metaKey) return;
  const target = event.target;
  const inside = target.closest?.(".player") !== null;
  if (target.matches?.("select, textarea, summary, input:not([type=range])")) return;
  if (!inside && target.matches?.("button, a") && event.key === " ") return;
  const actions = {
    " ": () => player.toggle(),
    "ArrowLeft": () => player.seek(player.position - 1),
    "ArrowRight": () => player.seek(player.position + 1),
    "Home": () => player.seek(0),
  };
  const digit = /^[1-9]$/.test(event.key) && Number(event.key) <= player.tracks.length;
  const moves = event.key !== " " && !digit;
  if (!inside && moves) return;  // elsewhere the arrows scroll the page and its tables
  const action = digit ? () => player.select(Number(event.key) - 1) : actions[event.key];
  if (!action) return;
  event.preventDefault();
  player.use(action);
}

// A button reacts to the release of the space key, which has played or paused already.
function released(event) {
  if (event.key === " " && event.target.matches?.(".player button")) event.preventDefault();
}

document.querySelectorAll(".player").forEach(bindPlayer);
document.addEventListener("keydown", pressed);
document.addEventListener("keyup", released);
