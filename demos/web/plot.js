// Where things are, for robots without cameras and beside them: every field that is a position in metres, from above
// and from the front. Directions are those of the sticks: up on the left stick is up in the view from above.

const COLORS = ["#4c8dff", "#e2a336", "#30a46c", "#d864d8", "#e5484d", "#7fd1d8"];

export class Plot {
  constructor(canvas, fields) {
    this.canvas = canvas;
    this.fields = fields.filter((field) => field.unit === "m" && field.components.join() === "x,y,z"
      && !field.name.includes("_from_"));
    canvas.hidden = this.fields.length === 0;
    this.trail = [];
    this.extents = {};
  }

  points(observation) {
    return this.fields.filter((field) => observation[field.name]).map((field) => observation[field.name]);
  }

  // Make room for an observation that will be drawn later.
  extend(observation) {
    const points = this.points(observation);
    if (points.length) [0, 1, 2].forEach((axis) => this.extent(points, axis));
  }

  draw(observation) {
    const points = this.points(observation);
    if (this.canvas.hidden || points.length === 0) return;
    this.trail = [...this.trail.slice(-60), points[0]];
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (this.canvas.width !== width * ratio) this.canvas.width = width * ratio;
    if (this.canvas.height !== height * ratio) this.canvas.height = height * ratio;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const half = (width - 20) / 2;
    this.view(pen, points, 0, half, height, "from above", 0);
    this.view(pen, points, half + 20, half, height, "from the front", 2);
  }

  // `up` is the axis that points upwards; y points to the left in both views.
  view(pen, points, left, width, height, title, up) {
    const [right, far] = this.extent(points, 1);
    const [bottom, top] = this.extent(points, up);
    const scale = Math.min(width / (far - right), (height - 24) / (top - bottom));
    const x = (point) => left + width / 2 - (point[1] - (right + far) / 2) * scale;
    const y = (point) => 20 + (height - 24) / 2 - (point[up] - (bottom + top) / 2) * scale;
    pen.fillStyle = "#97a1ae";
    pen.font = "13px system-ui, sans-serif";
    pen.fillText(`${title}, grid of 0.1 m`, left + 2, 14);
    pen.strokeStyle = "#2a313b";
    pen.save();
    pen.beginPath();
    pen.rect(left, 20, width, height - 24);
    pen.clip();
    pen.beginPath();
    for (let k = -20; k <= 20; k++) {
      pen.moveTo(x([0, k / 10, 0]), 20);
      pen.lineTo(x([0, k / 10, 0]), height);
      const line = [0, 0, 0];
      line[up] = k / 10;
      pen.moveTo(left, y(line));
      pen.lineTo(left + width, y(line));
    }
    pen.stroke();
    pen.strokeStyle = "rgb(76 141 255 / 45%)";
    pen.beginPath();
    this.trail.forEach((point, k) => k ? pen.lineTo(x(point), y(point)) : pen.moveTo(x(point), y(point)));
    pen.stroke();
    points.forEach((point, k) => {
      pen.fillStyle = COLORS[k % COLORS.length];
      pen.beginPath();
      pen.arc(x(point), y(point), 7, 0, 2 * Math.PI);
      pen.fill();
      pen.fillText(this.fields[k].name.replace("_position", ""), x(point) + 10, y(point) + (k % 2 ? 14 : -6));
    });
    pen.restore();
  }

  // What has to be seen along an axis so far [m]: all points, with some room; it only grows.
  extent(points, axis) {
    const values = points.map((point) => point[axis]);
    const [low, high] = this.extents[axis] ?? [Infinity, -Infinity];
    this.extents[axis] = [Math.min(low, ...values.map((value) => value - 0.08)),
      Math.max(high, ...values.map((value) => value + 0.08))];
    return this.extents[axis];
  }
}
