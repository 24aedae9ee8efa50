// The page: sends what the hands do thirty times a second, and shows what comes back.

import { makeCameras, makeFields, showFrame, showRows } from "./parts.js";
import { Plot } from "./plot.js";
import { Hands } from "./sticks.js";

const SEND_PERIOD_MS = 33;
const RECONNECT_MS = 1000;
const KEYS = { Backspace: "failure", x: "discard", n: "rerecord", z: "undo", p: "pause", t: "stop", Q: "quit" };
const PHASES = { recording: "● rec", done: "enough" };
const NEXT = {
  waiting: "Press Start or Enter to begin the next episode", resetting: "The robot moves to a start",
  paused: "Paused: the robot holds", done: "Enough is recorded: Enter ends the session, z undoes the last episode",
};
const USABLE = {
  start: ["waiting", "done"], success: ["recording", "paused"], failure: ["recording", "paused"],
  stop: ["recording", "paused"], discard: ["recording", "paused"],
};
const at = (id) => document.getElementById(id);
const page = { socket: null, seen: 0, latency: null, state: null, plot: null };
const hands = new Hands(press);

function send(message) {
  if (page.socket?.readyState === WebSocket.OPEN) page.socket.send(JSON.stringify(message));
}

function press(name) {
  if (name === "gripper") return send({ type: "gripper" });
  if (name === "success" && ["waiting", "done"].includes(page.state?.session.phase)) name = "start";
  send({ type: "ask", request: name });
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/ws${location.search}`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => typeof event.data === "string" ? hear(JSON.parse(event.data)) : showFrame(at("cameras"), event.data);
  socket.onclose = () => {
    page.state = null;
    showPhase("no connection", "");
    showHold("The connection is gone: the robot holds. Trying again.");
    setTimeout(connect, RECONNECT_MS);
  };
  page.socket = socket;
  page.seen = 0;
}

function hear(message) {
  if (message.type === "hello") meet(message);
  if (message.type === "state") show(message);
  if (message.type === "bridge") showRows(at("bridge"), message.rows);
  if (message.type === "echo") {
    page.seen = message.now;
    const took = performance.now() - message.sent;
    page.latency = page.latency === null ? took : 0.8 * page.latency + 0.2 * took;
    at("latency").textContent = page.latency.toFixed(page.latency < 10 ? 1 : 0);
    at("latency").classList.toggle("bad", page.latency > 0.5 * page.maxAge);
  }
}

function meet(hello) {
  document.title = `${hello.robot} · robot-rlpd`;
  page.maxAge = hello.max_age_ms;
  hands.numAxes = hello.axes.length;
  at("wanted").textContent = hello.control_rate_hz;
  at("gripper").hidden = !hello.gripper;
  at("keys").innerHTML = hands.help(hello.gripper);
  const labels = hands.label(hello.axes);
  at("left-stick").dataset.label = labels.left;
  at("right-stick").dataset.label = labels.right;
  makeCameras(at("cameras"), hello.cameras);
  page.plot = new Plot(at("plot"), hello.fields);
  page.rows = makeFields(at("fields"), [{ name: "action" }, ...hello.fields]);
}

function showPhase(text, phase) {
  at("phase").textContent = text;
  at("phase").className = `phase ${phase}`;
}

function showHold(text) {
  at("hold").hidden = !text;
  at("hold").textContent = text;
}

function show(state) {
  page.state = state;
  const session = state.session;
  if (!session.phase) return;
  showPhase(PHASES[session.phase] ?? session.phase, session.phase);
  const many = session.target > 1e6;
  const number = Math.min(session.kept + 1, session.target);
  at("episode").textContent = session.phase === "recording" || session.phase === "paused"
    ? `episode ${number}${many ? "" : ` of ${session.target}`} · ${session.seconds.toFixed(1)} s · ${session.steps} steps`
    : `${session.kept}${many ? "" : ` of ${session.target}`} kept`;
  at("told").textContent = session.told;
  at("rate").textContent = session.rate_hz === null ? "–" : session.rate_hz.toFixed(1);
  at("late").textContent = session.late_ticks;
  at("dropped").textContent = session.dropped_frames;
  at("disk-part").hidden = session.disk_free_bytes === null;
  at("disk").textContent = ((session.disk_free_bytes ?? 0) / 1e9).toFixed(1);
  at("role-text").textContent = (state.driving ? "This page drives" : "Looking on")
    + (state.watchers ? ` · ${state.watchers} other page${state.watchers > 1 ? "s" : ""}` : "");
  at("take").hidden = state.driving;
  at("gripper").textContent = state.gripper_high ? "Close gripper" : "Open gripper";
  for (const button of document.querySelectorAll("[data-ask]")) {
    const usable = USABLE[button.dataset.ask] ?? null;
    const undo = button.dataset.ask !== "undo" || session.can_undo;
    button.disabled = !state.driving || !undo || (usable !== null && !usable.includes(session.phase));
  }
  const missing = Object.entries(session.missing_cameras);
  document.querySelectorAll("#cameras figure").forEach((figure) => {
    figure.classList.toggle("missing", figure.dataset.name in session.missing_cameras);
  });
  const cut = state.driving && session.phase === "recording" && state.holding;
  const blind = session.phase === "waiting" && missing.length > 0;
  const next = blind ? `Waiting for ${missing.map(([name]) => name).join(", ")}` : NEXT[session.phase] ?? "";
  at("next").textContent = state.driving ? next : "";
  showHold([
    cut ? "The robot holds: commands come too late." : "",
    ...missing.map(([name, seconds]) => `Camera ${name} has given no image for ${seconds.toFixed(1)} s.`),
  ].filter(Boolean).join(" "));
  page.plot?.draw(state.observation);
  for (const [name, values] of [["action", state.action], ...Object.entries(state.observation)]) {
    const cell = page.rows?.get(name);
    if (cell) cell.textContent = values ? values.map((value) => value.toFixed(3)).join("  ") : "–";
  }
}

function tick() {
  if (document.hidden) return;
  send({ type: "drive", axes: hands.axes(at("speed").value / 9), seen: page.seen, sent: performance.now() });
}

function leave() {
  hands.letGo();
  send({ type: "role", do: "release" });
}

for (const button of document.querySelectorAll("[data-ask]")) {
  button.onclick = () => { button.blur(); press(button.dataset.ask); };
}
at("gripper").onclick = () => { at("gripper").blur(); press("gripper"); };
at("take").onclick = () => send({ type: "role", do: "take" });
hands.watch(at("left-stick"), "left");
hands.watch(at("right-stick"), "right");
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  let used = hands.key(event, true);
  const name = event.key === " " ? "gripper" : event.key === "Enter" ? "success" : KEYS[event.key];
  if (name) {
    used = true;
    if (!event.repeat) press(name);
  }
  if (/^[1-9]$/.test(event.key)) at("speed").value = event.key;
  if (used) event.preventDefault();
});
document.addEventListener("keyup", (event) => hands.key(event, false));
document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); });
window.addEventListener("blur", () => hands.letGo());
window.addEventListener("pagehide", leave);
setInterval(tick, SEND_PERIOD_MS);
connect();
