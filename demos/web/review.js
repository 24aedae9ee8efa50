// Review: the list of episodes, and one of them to scrub through, trim, label or delete. Every edit can be undone.

import { Chart } from "./chart.js";
import { showNumbers, showPanels } from "./histograms.js";
import { Plot } from "./plot.js";

const at = (id) => document.getElementById(id);
const page = { socket: null, list: [], episode: null, row: 0, from: 0, to: 0, playing: null, asked: false, wanted: null };
const chart = new Chart(at("chart"), at("legend"), (row) => seek(row));

function ask(message) {
  if (page.socket?.readyState === WebSocket.OPEN) page.socket.send(JSON.stringify(message));
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  page.socket = new WebSocket(`${scheme}://${location.host}/ws${location.search}`);
  page.socket.binaryType = "arraybuffer";
  page.socket.onopen = () => ask({ type: "list" });
  page.socket.onclose = () => { tell("The connection is gone. Trying again.", true); setTimeout(connect, 1000); };
  page.socket.onmessage = (event) => {
    if (typeof event.data !== "string") return showFrame(event.data);
    const message = JSON.parse(event.data);
    if (message.type === "list") showList(message);
    if (message.type === "episode") showEpisode(message);
    if (message.type === "statistics") showStatistics(message);
    if (message.type === "error") tell(message.message, true);
  };
}

function tell(text, bad = false) {
  at("told").textContent = text;
  at("told").classList.toggle("bad", bad);
}

function showList(message) {
  page.list = message.episodes;
  tell(message.told);
  at("path").textContent = message.path;
  at("count").textContent = message.episodes.length;
  at("successes").textContent = message.episodes.filter((episode) => episode.success).length;
  at("edits").textContent = message.edits;
  at("undo").disabled = message.edits === 0;
  at("episodes").replaceChildren(...message.episodes.map((episode, index) => {
    const button = document.createElement("button");
    const label = { true: ["success", "good"], false: ["failure", "bad"], null: ["unknown", "faint"] }[episode.success];
    const parts = [[index, "faint"], [`${episode.steps} steps${episode.trimmed ? " (trimmed)" : ""}`, ""], label];
    button.append(...parts.map(([text, kind]) => {
      const part = document.createElement("span");
      part.textContent = text;
      part.className = kind;
      return part;
    }));
    button.title = [episode.ended, episode.device, episode.operator, episode.notes, episode.uuid].filter(Boolean).join(" · ");
    button.onclick = () => { turn(false); open(episode.uuid); };
    button.dataset.uuid = episode.uuid;
    return button;
  }));
  const uuids = page.list.map((episode) => episode.uuid);
  const uuid = uuids.includes(page.wanted) ? page.wanted : uuids[Math.min(page.place ?? 0, uuids.length - 1)];
  if (uuid) open(uuid);
  else clear();
  if (!at("whole").hidden) ask({ type: "statistics" });
}

function showStatistics(message) {
  showNumbers(at("numbers"), message.numbers);
  showPanels(at("panels"), message.histograms, message.action_ranges);
}

function turn(whole) {
  at("whole").hidden = !whole;
  at("scene").hidden = whole;
  at("statistics").setAttribute("aria-pressed", whole);
  if (whole) ask({ type: "statistics" });
  else seek(page.row);
}

function open(uuid) {
  stop();
  page.wanted = uuid;
  page.place = page.list.findIndex((episode) => episode.uuid === uuid);
  for (const button of at("episodes").children) button.classList.toggle("open", button.dataset.uuid === uuid);
  at("episodes").children[page.place]?.scrollIntoView({ block: "nearest" });
  ask({ type: "open", uuid });
}

function clear() {
  page.episode = page.wanted = null;
  at("where").textContent = "no episodes";
}

function showEpisode(episode) {
  page.episode = episode;
  [page.from, page.to] = [0, episode.steps];
  at("row").max = episode.rows - 1;
  page.plot = new Plot(at("plot"), episode.fields);
  at("cameras").replaceChildren(...episode.cameras.map((name) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = name;
    figure.append(new Image(), caption);
    return figure;
  }));
  page.cells = new Map(episode.fields.map((field) => {
    const row = document.createElement("tr");
    row.append(document.createElement("td"), document.createElement("td"));
    row.cells[0].textContent = field.name + (field.unit ? ` [${field.unit}]` : "");
    return [field.name, row.cells[1]];
  }));
  at("fields").replaceChildren(...[...page.cells.values()].map((cell) => cell.parentElement));
  for (let row = 0; row < episode.rows; row++) page.plot.extend(observation(row));
  chart.show(episode);
  seek(0);
}

function observation(row) {
  return Object.fromEntries(Object.entries(page.episode.observations).map(([name, rows]) => [name, rows[row]]));
}

function showFrame(data) {
  const image = at("cameras").querySelectorAll("img")[new Uint8Array(data, 0, 1)[0]];
  if (!image) return;
  const url = URL.createObjectURL(new Blob([data.slice(1)], { type: "image/jpeg" }));
  image.onload = image.onerror = () => URL.revokeObjectURL(url);
  image.src = url;
}

function seek(row) {
  const episode = page.episode;
  if (!episode) return;
  page.row = Math.max(0, Math.min(episode.rows - 1, row));
  at("row").value = page.row;
  at("where").textContent = `step ${page.row} of ${episode.steps} · ${episode.seconds[page.row].toFixed(2)} s`
    + (page.row < episode.steps ? ` · by ${episode.sources[page.row]}` : " · end")
    + (episode.rewards && page.row < episode.steps ? ` · reward ${episode.rewards[page.row][0]}` : "");
  if (episode.cameras.length) ask({ type: "images", row: page.row });
  const values = observation(page.row);
  page.plot.draw(values);
  for (const [name, cell] of page.cells) cell.textContent = values[name].map((value) => value.toFixed(3)).join("  ");
  chart.draw(page.row, page.from, page.to);
  at("trim").disabled = page.from === 0 && page.to === episode.steps;
  at("trim").textContent = at("trim").disabled ? "Trim" : `Trim to ${page.from}–${page.to}`;
}

function stop() {
  clearInterval(page.playing);
  page.playing = null;
  at("play").textContent = "Play";
}

function play() {
  if (page.playing || !page.episode) return stop();
  if (page.row >= page.episode.rows - 1) seek(0);
  at("play").textContent = "Stop";
  page.playing = setInterval(() => {
    seek(page.row + 1);
    if (page.row >= page.episode.rows - 1) stop();
  }, 1000 / page.episode.control_rate_hz);
}

// What is marked in the list is edited, also while the page still shows the one before.
function edit(message) {
  if (page.wanted) ask({ ...message, uuid: page.wanted });
}

const DO = {
  play,
  from: () => { page.from = Math.min(page.row, page.to - 1); seek(page.row); },
  to: () => { page.to = Math.max(Math.min(page.row, page.episode.steps), page.from + 1); seek(page.row); },
  trim: () => {
    const shown = page.episode?.uuid === page.wanted;
    if (shown && !at("trim").disabled) edit({ type: "trim", start: page.from, stop: page.to });
  },
  success: () => edit({ type: "relabel", success: true }),
  failure: () => edit({ type: "relabel", success: false }),
  delete: () => edit({ type: "delete" }),
  statistics: () => turn(at("whole").hidden),
  undo: () => { if (!at("undo").disabled) ask({ type: "undo" }); },
};
const KEYS = { " ": "play", "[": "from", "]": "to", t: "trim", s: "success", f: "failure", Delete: "delete", z: "undo", h: "statistics" };
for (const [id, act] of Object.entries(DO)) at(id).onclick = () => { at(id).blur(); act(); };
at("row").oninput = () => seek(Number(at("row").value));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const next = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (step) seek(page.row + step);
  else if (next && page.list[page.place + next]) open(page.list[page.place + next].uuid);
  else if (KEYS[event.key]) DO[KEYS[event.key]]();
  else return;
  event.preventDefault();
});
window.addEventListener("resize", () => at("whole").hidden ? seek(page.row) : ask({ type: "statistics" }));
connect();
