// Parts of the pages that show a robot: its cameras, its fields, the figures of its bridge.

// One line per figure, what is worth a look in red.
export function showRows(box, rows) {
  box.hidden = false;
  box.replaceChildren(...rows.map(([name, value, bad]) => {
    const row = document.createElement("div");
    row.append(document.createElement("span"), document.createElement("b"));
    [row.firstChild.textContent, row.lastChild.textContent] = [name, value];
    row.classList.toggle("bad", bad);
    return row;
  }));
}

// One picture per camera, named.
export function makeCameras(box, names) {
  box.replaceChildren(...names.map((name) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = figure.dataset.name = name;
    figure.append(new Image(), caption);
    return figure;
  }));
}

// A frame is the number of its camera and a JPEG file.
export function showFrame(box, data) {
  const image = box.querySelectorAll("img")[new Uint8Array(data, 0, 1)[0]];
  const url = URL.createObjectURL(new Blob([data.slice(1)], { type: "image/jpeg" }));
  image.onload = image.onerror = () => URL.revokeObjectURL(url);
  image.src = url;
}

// A table line per field; the cells of their values by name.
export function makeFields(table, fields) {
  const cells = new Map(fields.map(({ name, unit }) => {
    const row = document.createElement("tr");
    row.append(document.createElement("td"), document.createElement("td"));
    row.cells[0].textContent = name + (unit ? ` [${unit}]` : "");
    return [name, row.cells[1]];
  }));
  table.replaceChildren(...[...cells.values()].map((cell) => cell.parentElement));
  return cells;
}
