// The page that only looks: what a served robot sees and how its bridge does, or how a learner's actors do.

import { makeCameras, makeFields, showFrame, showRows } from "./parts.js";
import { Plot } from "./plot.js";

const RECONNECT_MS = 1000;
const at = (id) => document.getElementById(id);
const page = { cells: new Map(), plot: null };

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/ws${location.search}`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => typeof event.data === "string"
    ? hear(JSON.parse(event.data)) : showFrame(at("cameras"), event.data);
  socket.onclose = () => {
    showPhase("no connection", "");
    setTimeout(connect, RECONNECT_MS);
  };
}

function hear(message) {
  if (message.type === "hello") meet(message);
  if (message.type === "bridge") {
    showRows(at("bridge"), message.rows);
    showPhase(message.phase, message.phase === "runs" ? "done" : "waiting");
  }
  if (message.type === "state") {
    page.plot?.draw(message.observation);
    for (const [name, values] of Object.entries(message.observation)) {
      const cell = page.cells.get(name);
      if (cell) cell.textContent = values.map((value) => value.toFixed(3)).join("  ");
    }
  }
}

function meet(hello) {
  document.title = `${hello.name} · robot-rlpd`;
  at("name").textContent = hello.name;
  at("told").textContent = `at ${hello.address}, looked at only`;
  at("robot").hidden = hello.fields === null;
  document.body.classList.toggle("learner", hello.fields === null);
  if (hello.fields === null) return;
  makeCameras(at("cameras"), hello.cameras);
  page.cells = makeFields(at("fields"), hello.fields);
  page.plot = new Plot(at("plot"), hello.fields);
}

function showPhase(text, phase) {
  at("phase").textContent = text;
  at("phase").className = `phase ${phase}`;
}

connect();
