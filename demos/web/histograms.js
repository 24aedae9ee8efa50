// A whole store: its numbers, where the actions lie within their bounds, and a histogram of everything recorded.

const BAR = "#4c8dff", FAINT = "#97a1ae", LINE = "#343c48";
const HEIGHT = 96;

const short = (value) => Number(value.toPrecision(3)).toString();

export function showNumbers(table, numbers) {
  const unsolved = numbers.episodes - numbers.successes - numbers.unknown_success;
  const ranged = (entry) => entry && entry.min !== null
    ? `${short(entry.min)} to ${short(entry.max)}, median ${short(entry.median)}` : "none recorded";
  const rows = [
    ["episodes", `${numbers.episodes}: ${numbers.successes} successes, ${unsolved} failures, ${numbers.unknown_success} unknown`],
    ["edited", `${numbers.trimmed} trimmed, ${numbers.relabelled} relabelled, ${numbers.deleted} deleted`],
    ["steps", `${numbers.steps} in ${short(numbers.duration_s)} s: `
      + Object.entries(numbers.sources).map(([name, count]) => `${count} ${name}`).join(", ")],
    ["length [steps]", ranged(numbers.lengths)],
    ["return", ranged(numbers.returns)],
  ];
  if (numbers.rate.mean_hz !== null) {
    rows.push(["rate", `${short(numbers.rate.mean_hz)} Hz of ${numbers.control_rate_hz} Hz wanted, `
      + `${short(100 * numbers.rate.late_share)} % of the periods late`]);
  }
  for (const [name, camera] of Object.entries(numbers.cameras)) {
    rows.push([name, `${camera.frames} frames, ${camera.dropped} dropped`]);
  }
  table.replaceChildren(...rows.map(([name, text]) => {
    const row = document.createElement("tr");
    row.append(document.createElement("th"), document.createElement("td"));
    [row.cells[0].textContent, row.cells[1].textContent] = [name, text];
    return row;
  }));
}

export function showPanels(box, histograms, ranges) {
  const [first, ...others] = histograms;
  const drawn = [panel(first.title, (pen, width) => bars(pen, width, first))];
  drawn.push(panel("actions within their bounds (5 to 95 %, whole range)", (pen, width) => spans(pen, width, ranges)));
  drawn.push(...others.map((one) => panel(one.title, (pen, width) => bars(pen, width, one))));
  box.replaceChildren(...drawn.map(([figure]) => figure));
  for (const [figure, draw] of drawn) {
    const canvas = figure.querySelector("canvas");
    const ratio = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [canvas.clientWidth * ratio, HEIGHT * ratio];
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, sans-serif";
    draw(pen, canvas.clientWidth);
  }
}

function panel(title, draw) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = caption.title = title;
  figure.append(caption, document.createElement("canvas"));
  return [figure, draw];
}

function bars(pen, width, histogram) {
  pen.fillStyle = FAINT;
  if (histogram.empty) return pen.fillText(histogram.empty, 4, HEIGHT / 2);
  const base = HEIGHT - 16;
  const scale = histogram.log ? (count) => Math.log1p(count) : (count) => count;
  const most = scale(Math.max(...histogram.counts));
  const step = width / histogram.counts.length;
  pen.fillText(short(histogram.low), 0, HEIGHT - 3);
  pen.textAlign = "right";
  pen.fillText(short(histogram.high), width, HEIGHT - 3);
  pen.fillStyle = BAR;
  histogram.counts.forEach((count, i) => {
    const tall = count ? Math.max(1, scale(count) / most * (base - 2)) : 0;
    pen.fillRect(i * step, base - tall, step - 1, tall);
  });
  pen.fillStyle = LINE;
  pen.fillRect(0, base, width, 1);
}

function spans(pen, width, ranges) {
  const left = 70;
  const x = (value) => left + (Math.max(-1.2, Math.min(1.2, value)) + 1.2) / 2.4 * (width - left);
  const step = Math.min(18, (HEIGHT - 8) / Math.max(1, ranges.length));
  pen.fillStyle = FAINT;
  for (const bound of [-1, 1]) pen.fillRect(x(bound), 0, 1, step * ranges.length + 4);
  ranges.forEach((range, i) => {
    const y = 2 + (i + 0.5) * step;
    pen.fillStyle = FAINT;
    pen.fillText(range.name, 0, y + 4, left - 6);
    pen.fillStyle = BAR;
    pen.fillRect(x(range.lowest), y - 0.5, x(range.highest) - x(range.lowest) + 1, 1);
    pen.fillRect(x(range.low_5), y - 3, x(range.high_95) - x(range.low_5) + 1, 6);
  });
}
