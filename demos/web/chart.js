// The course of an episode: executed actions within their bounds, reward, who acted, dropped frames, and the trim.

const COLORS = ["#4c8dff", "#e2a336", "#30a46c", "#d864d8", "#7fd1d8", "#c7d24f", "#ff8f6b", "#9d8cff"];
const SOURCES = { human: "#e2a336", policy: "#4c8dff", scripted: "#7a8594", random: "#d864d8" };
const STRIP = 8;

export class Chart {
  constructor(canvas, legend, onSeek) {
    this.canvas = canvas;
    this.legend = legend;
    const seek = (event) => {
      const box = canvas.getBoundingClientRect();
      if (this.episode) onSeek(Math.round((event.clientX - box.left) / box.width * (this.episode.rows - 1)));
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); seek(event); });
    canvas.addEventListener("pointermove", (event) => { if (canvas.hasPointerCapture(event.pointerId)) seek(event); });
  }

  show(episode) {
    this.episode = episode;
    const entries = episode.action_names.map((name, i) => [name, COLORS[i % COLORS.length]]);
    if (episode.rewards) entries.push(["reward", "#e8ebef"]);
    for (const source of new Set(episode.sources)) entries.push([`by ${source}`, SOURCES[source]]);
    if (Object.values(episode.dropped).some((rows) => rows.length)) entries.push(["frame dropped", "#e5484d"]);
    this.legend.replaceChildren(...entries.map(([name, color]) => {
      const entry = document.createElement("span");
      const mark = document.createElement("i");
      mark.style.background = color;
      entry.append(mark, name);
      return entry;
    }));
  }

  draw(row, from, to) {
    const episode = this.episode;
    if (!episode) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const x = (t) => t / Math.max(1, episode.rows - 1) * width;
    const line = (values, low, high, color) => {
      pen.strokeStyle = color;
      pen.beginPath();
      values.forEach((value, t) => {
        const y = 6 + (1 - (value - low) / (high - low || 1)) * (height - STRIP - 14);
        t ? pen.lineTo(x(t), y) : pen.moveTo(x(t), y);
      });
      pen.stroke();
    };
    pen.strokeStyle = "#2a313b";
    pen.strokeRect(0.5, 0.5, width - 1, height - STRIP - 2);
    episode.action_names.forEach((_, i) => line(episode.actions.map((a) => a[i]), -1, 1, COLORS[i % COLORS.length]));
    if (episode.rewards) {
      const rewards = episode.rewards.map((r) => r[0]);
      pen.setLineDash([4, 3]);
      line(rewards, Math.min(...rewards), Math.max(...rewards), "#e8ebef");
      pen.setLineDash([]);
    }
    episode.sources.forEach((source, t) => {
      pen.fillStyle = SOURCES[source];
      pen.fillRect(x(t), height - STRIP, x(t + 1) - x(t) + 0.5, STRIP);
    });
    pen.fillStyle = "#e5484d";
    for (const rows of Object.values(episode.dropped)) for (const t of rows) pen.fillRect(x(t) - 1, height - STRIP - 8, 2, 8);
    pen.fillStyle = "rgb(20 23 28 / 75%)";
    pen.fillRect(0, 0, x(from), height);
    pen.fillRect(x(to), 0, width - x(to), height);
    pen.strokeStyle = "#e8ebef";
    pen.beginPath();
    pen.moveTo(x(row), 0);
    pen.lineTo(x(row), height);
    pen.stroke();
  }
}
