// What the operator's hands do, as axes in [-1, 1]: keys, pointers on the two sticks, and any pad plugged in.

const KEYS = [["w", "s"], ["a", "d"], ["r", "f"], ["i", "k"], ["j", "l"], ["u", "o"]];
const ARROWS = { ArrowUp: "w", ArrowDown: "s", ArrowLeft: "a", ArrowRight: "d", PageUp: "r", PageDown: "f" };
const DEAD_ZONE = 0.12;
// Buttons of the standard layout of the Gamepad API.
const PAD_BUTTONS = { 0: "gripper", 1: "failure", 2: "discard", 3: "rerecord", 8: "undo", 9: "success", 16: "pause" };

export class Hands {
  constructor(onButton) {
    this.onButton = onButton;
    this.held = new Set();
    this.sticks = { left: [0, 0], right: [0, 0] };
    this.padPressed = new Set();
    this.numAxes = 0;
  }

  // The same two directions on each stick as on a pad: up and left are positive.
  get stickAxes() {
    return this.numAxes > 3 ? [[0, 1], [2, this.numAxes - 1]] : [[0, 1], [2, null]];
  }

  letGo() {
    this.held.clear();
    this.sticks = { left: [0, 0], right: [0, 0] };
  }

  key(event, down) {
    const key = ARROWS[event.key] ?? event.key.toLowerCase();
    const known = KEYS.slice(0, this.numAxes).flat().includes(key);
    if (known) down ? this.held.add(key) : this.held.delete(key);
    return known;
  }

  watch(element, name) {
    const knob = element.querySelector("i");
    const move = (event) => {
      const box = element.getBoundingClientRect();
      let x = (event.clientX - box.left) / box.width * 2 - 1;
      let y = (event.clientY - box.top) / box.height * 2 - 1;
      const far = Math.max(1, Math.hypot(x, y));
      [x, y] = [x / far, y / far];
      this.sticks[name] = [-y, -x];
      knob.style.transform = `translate(${x * 42}px, ${y * 42}px)`;
    };
    const end = () => {
      this.sticks[name] = [0, 0];
      knob.style.transform = "";
    };
    element.addEventListener("pointerdown", (event) => { element.setPointerCapture(event.pointerId); move(event); });
    element.addEventListener("pointermove", (event) => {
      if (element.hasPointerCapture(event.pointerId)) move(event);
    });
    element.addEventListener("lostpointercapture", end);
    element.addEventListener("pointercancel", end);
  }

  axes(speed) {
    const axes = new Array(this.numAxes).fill(0);
    KEYS.slice(0, this.numAxes).forEach(([up, down], i) => {
      axes[i] += (this.held.has(up) ? 1 : 0) - (this.held.has(down) ? 1 : 0);
    });
    const add = (index, value) => { if (index !== null && index < axes.length) axes[index] += value; };
    const [left, right] = this.stickAxes;
    for (const [indices, values] of [[left, this.sticks.left], [right, this.sticks.right]]) {
      add(indices[0], values[0]);
      add(indices[1], values[1]);
    }
    this.readPads(add, left, right);
    return axes.map((value) => Math.max(-1, Math.min(1, value)) * speed);
  }

  readPads(add, left, right) {
    const pads = navigator.getGamepads ? [...navigator.getGamepads()].filter(Boolean) : [];
    const pressed = new Set();
    for (const pad of pads) {
      const live = pad.axes.map((value) => Math.abs(value) < DEAD_ZONE ? 0 : value);
      add(left[0], -(live[1] ?? 0));
      add(left[1], -(live[0] ?? 0));
      add(right[0], -(live[3] ?? 0));
      add(right[1], -(live[2] ?? 0));
      pad.buttons.forEach((button, number) => { if (button.pressed) pressed.add(`${pad.index}:${number}`); });
    }
    for (const button of pressed) {
      const name = PAD_BUTTONS[button.split(":")[1]];
      if (!this.padPressed.has(button) && name) this.onButton(name);
    }
    this.padPressed = pressed;
  }

  label(names) {
    const [left, right] = this.stickAxes;
    const text = ([up, side]) => [names[up] && `↕ ${names[up]}`, names[side] && `↔ ${names[side]}`].filter(Boolean).join("\n");
    return { left: text(left), right: text(right) };
  }

  help(hasGripper) {
    const moves = KEYS.slice(0, this.numAxes).map(([up, down]) => `<kbd>${up}</kbd><kbd>${down}</kbd>`).join(" ");
    return `${moves} move${hasGripper ? ", <kbd>Space</kbd> gripper" : ""}, <kbd>Enter</kbd> start, success, ` +
      "<kbd>⌫</kbd> failure, <kbd>x</kbd> discard, <kbd>n</kbd> once more, <kbd>z</kbd> undo, <kbd>p</kbd> pause. " +
      "A pad plugged into this computer works too.";
  }
}
