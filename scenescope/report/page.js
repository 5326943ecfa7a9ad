"use strict";
// What is shown is in `data`; what is chosen is in `chosen`. Every change ends in one of the show functions.
const data = JSON.parse(document.getElementById("data").textContent);
const frames = data.steps.length, last = data.steps[frames - 1];
const chosen = { image: 0, frame: Math.min(2, frames - 1), kind: "zt", view: "score", cell: null };
const probed = data.layers.indexOf(data.layer);
const tops = data.grids.map((_, layer) => data.grids.slice(0, layer).reduce((sum, grid) => sum + grid, 0));
const $ = (id) => document.getElementById(id);
const minus = (text) => text.replace("-", "−");
const fixed = (value, digits = 2) => (value === null ? "–" : minus(value.toFixed(digits)));
const signed = (value, digits = 2) => (value === null ? "–" : (value >= 0 ? "+" : "") + fixed(value, digits));
const shortScore = (target) => (target === "saliency" ? "Dice" : "ρ");
const shownViews = { zt: "The half-denoised picture", x0: "The clean picture that the model predicts" };
const kindNames = { zt: "the picture at this step", x0: "what this step predicts" };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Strips are decoded when an image is chosen, and stay decoded.
const decoded = new Map();
function strip(address) {
  if (!decoded.has(address)) {
    const image = new Image();
    image.src = address;
    decoded.set(address, image.decode().then(() => image));
  }
  return decoded.get(address);
}
let strips = null;
async function load(image) {
  const names = {};
  for (const kind of ["zt", "x0"]) {
    names[kind] = image[kind];
    for (const target of data.targets) names[`${kind}-${target}`] = image.seen[kind][target];
  }
  for (const target of data.targets) names[`probe-${target}`] = image.probe[target];
  const entries = await Promise.all(Object.entries(names).map(async ([name, address]) => [name, await strip(address)]));
  return Object.fromEntries(entries);
}

function draw(canvas, image, x, y, width, height, blocks) {
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  canvas.classList.toggle("blocks", blocks);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(image, x, y, width, height, 0, 0, width, height);
}
function drawFrame(canvas, image, frame) {
  const side = image.height;
  draw(canvas, image, frame * side, 0, side, side, side < 128);
}
function drawTokens(canvas, target, layer, frame) {
  const grid = data.grids[layer];
  draw(canvas, strips[`probe-${target}`], frame * grid, tops[layer], grid, grid, true);
}

// The scrubber.
async function showImage(number) {
  chosen.image = number;
  const image = data.images[number];
  const loaded = await load(image);
  if (chosen.image !== number) return; // another was chosen meanwhile
  strips = loaded;
  $("prompt").replaceChildren(`“${image.prompt}”`, make("span", {}, `${image.id}, seed ${image.seed}`));
  drawFrame($("final"), strips.zt, frames);
  $("final").setAttribute("aria-label", `The finished picture of “${image.prompt}”`);
  for (const target of data.targets) {
    drawFrame($(`goal-${target}`), strips[`zt-${target}`], frames);
    $(`goal-${target}`).setAttribute("aria-label", `The label model’s ${target} of the finished picture, the goal`);
  }
  showStep();
  showFilm();
  if (chosen.cell) showCell();
  document.documentElement.dataset.ready = image.id;
}

function showStep() {
  if (!strips) return;
  const { frame, kind } = chosen, step = data.steps[frame], image = data.images[chosen.image];
  $("step").value = frame;
  $("step").setAttribute("aria-valuetext", `step ${step} of ${last}`);
  $("step-now").textContent = step;
  drawFrame($("picture"), strips[kind], frame);
  $("picture-name").textContent = kindNames[kind];
  $("picture").setAttribute("aria-label", `${shownViews[kind]} at step ${step} of ${last}: “${image.prompt}”`);
  for (const target of data.targets) {
    drawTokens($(`probe-${target}`), target, probed, frame);
    drawFrame($(`seen-${target}`), strips[`${kind}-${target}`], frame);
    const scores = { probe: image.scores.probe[target][probed][frame], seen: image.scores[kind][target][frame] };
    const who = { probe: `what the probe of ${data.layer} reads`, seen: "what the label model sees in the picture" };
    for (const [role, value] of Object.entries(scores)) {
      const text = value === null ? "no score" : `${data.scores[target]} ${fixed(value)}`;
      $(`${role}-${target}`).setAttribute("aria-label", `${target}: ${who[role]} at step ${step}; ${text}`);
      const shown = $(`score-${role}-${target}`);
      shown.dataset.value = value;
      shown.replaceChildren(`${shortScore(target)} `, make("b", {}, fixed(value)));
    }
    showTrace(target, image);
  }
}

function showTrace(target, image) {
  const lines = { [chosen.kind]: image.scores[chosen.kind][target], probe: image.scores.probe[target][probed] };
  const low = Math.min(0, ...Object.values(lines).flat().filter((value) => value !== null));
  const x = (frame) => 6 + (frame / Math.max(frames - 1, 1)) * 188;
  const y = (value) => 112 - ((value - low) / (1 - low)) * 104;
  let parts = `<line class="grid" x1="0" x2="200" y1="${y(0)}" y2="${y(0)}"/><line class="grid" x1="0" x2="200" y1="${y(1)}" y2="${y(1)}"/>`;
  parts += `<line class="now" x1="${x(chosen.frame)}" x2="${x(chosen.frame)}" y1="4" y2="116"/>`;
  for (const [row, values] of Object.entries(lines)) {
    const points = values.map((value, frame) => (value === null ? "" : `${x(frame).toFixed(1)},${y(value).toFixed(1)}`));
    parts += `<polyline class="line ${row}" points="${points.join(" ").trim()}"/>`;
    const now = values[chosen.frame];
    if (now !== null) parts += `<circle class="mark dot ${row}" cx="${x(chosen.frame)}" cy="${y(now)}" r="4.5"/>`;
  }
  $(`trace-${target}`).innerHTML = parts;
}

// On paper nothing slides: a strip of steps instead. Gives the frames that there is room for, and begins with their names.
function startFilm(film) {
  const count = Math.min(8, frames);
  const picked = Array.from({ length: count }, (_, i) => Math.round((i * (frames - 1)) / Math.max(count - 1, 1)));
  film.style.gridTemplateColumns = `60px repeat(${count}, minmax(0, 1fr))`;
  film.replaceChildren(make("span", {}, "step"), ...picked.map((frame) => make("span", {}, data.steps[frame])));
  return picked;
}
function showFilm() {
  const film = $("film"), picked = startFilm(film);
  for (const row of ["picture", ...data.targets]) {
    film.append(make("span", {}, row === "picture" ? row : `${row}, probe`));
    for (const frame of picked) {
      const canvas = make("canvas");
      film.append(canvas);
      if (row === "picture") drawFrame(canvas, strips.zt, frame);
      else drawTokens(canvas, row, probed, frame);
    }
  }
}

function go(frame) {
  chosen.frame = Math.max(0, Math.min(frames - 1, frame));
  showStep();
  tell(); // of a step that was played, no event tells
}
let playing = null;
function play(on) {
  clearInterval(playing);
  playing = null;
  if (on) {
    if (chosen.frame === frames - 1) go(0);
    const pause = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1500 : 550;
    playing = setInterval(() => (chosen.frame === frames - 1 ? play(false) : go(chosen.frame + 1)), pause);
  }
  $("play").setAttribute("aria-pressed", String(on));
  $("play").firstElementChild.textContent = on ? "❚❚" : "▶";
  $("play").lastElementChild.textContent = on ? "Pause" : "Play";
}

// Pictures to choose from, one of them chosen, and a slider over their steps.
function prepareChoice(choice, name, images, show, slider, move) {
  images.forEach((image, number) => {
    const input = make("input", { type: "radio", name, value: number, "aria-label": image.prompt });
    input.checked = number === 0;
    const face = make("span");
    face.style.backgroundImage = `url(${image.thumb})`;
    $(choice).append(make("label", { title: image.prompt }, input, face));
  });
  $(choice).addEventListener("change", (event) => show(Number(event.target.value)));
  $(slider).max = frames - 1;
  $(slider).value = chosen.frame;
  $(slider).addEventListener("input", (event) => move(Number(event.target.value)));
  $(slider).closest(".slider").querySelector(".of").textContent = `of ${last}`;
}

function prepareScrubber() {
  prepareChoice("choose", "image", data.images, showImage, "step", (frame) => { play(false); go(frame); });
  $("play").addEventListener("click", () => play(playing === null));
  for (const input of document.getElementsByName("kind")) {
    input.addEventListener("change", () => { chosen.kind = input.value; showStep(); });
  }
}

// The classified pictures: a choice and a slider of their own.
const named = { image: 0, frame: chosen.frame };
const percent = (share) => (share < 0.0005 ? "0" : share < 0.1 ? (100 * share).toFixed(1) : (100 * share).toFixed(0)) + " %";
let shownStrips = null;
async function showClassified(number) {
  named.image = number;
  const image = data.classified[number];
  const [zt, x0] = await Promise.all([strip(image.zt), strip(image.x0)]);
  if (named.image !== number) return;
  shownStrips = { zt, x0 };
  $("class-prompt").replaceChildren(`“${image.prompt}”`, make("span", {}, `${image.id}, seed ${image.seed}`));
  showAnswers();
  showClassFilm();
  $("classified").dataset.ready = image.id;
}

function showAnswers() {
  if (!shownStrips) return;
  const { frame } = named, step = data.steps[frame], image = data.classified[named.image];
  const wanted = data.classes[image.class], spoken = [];
  $("class-step").value = frame;
  $("class-step-now").textContent = step;
  for (const [kind, what] of Object.entries(shownViews)) {
    const top = image.top[kind][frame], since = image.settled[kind], place = top.findIndex(([name]) => name === image.class);
    const panel = $(`guess-${kind}`), canvas = panel.querySelector("canvas"), list = panel.querySelector("ol");
    drawFrame(canvas, shownStrips[kind], frame);
    panel.querySelector(".at").textContent = `, step ${step}`; // for paper, which has no slider
    canvas.setAttribute("aria-label", `${what} at step ${step} of ${last}: “${image.prompt}”`);
    list.setAttribute("aria-label", `What the classifier sees at step ${step}: ${kind === "zt" ? "as it is" : "predicted"}`);
    list.replaceChildren(...top.map(([name, share]) => {
      const bar = make("i", { "aria-hidden": "true" });
      bar.style.width = `${100 * share}%`;
      const own = name === image.class;
      return make("li", own ? { class: "own" } : {}, make("span", { title: data.classes[name] }, make("span", {}, data.classes[name]), ...(own ? [" ", make("em", {}, "prompted")] : [])), make("b", { "data-value": share }, percent(share)), bar);
    }));
    const here = place < 0 ? `The prompted class, ${wanted}, is not among these.` : place ? `The prompted class is number ${place + 1}.` : "Named as prompted.";
    const ever = since === null ? "It is never named for good." : `It is named for good from step ${since} on.`;
    panel.querySelector(".standing").textContent = `${here} ${ever}`;
    spoken.push(`${kind === "zt" ? "as it is" : "predicted"}, ${data.classes[top[0][0]]} ${percent(top[0][1])}`);
  }
  $("class-step").setAttribute("aria-valuetext", `step ${step} of ${last}: ${spoken.join("; ")}`);
}
function answerAt(frame) {
  named.frame = Math.max(0, Math.min(frames - 1, frame));
  showAnswers();
}

function showClassFilm() {
  const image = data.classified[named.image], cells = [];
  const picked = startFilm($("class-film"));
  for (const kind of ["zt", "x0"]) {
    cells.push(make("span", {}, kind === "zt" ? "as it is" : "predicted"));
    for (const frame of picked) {
      const canvas = make("canvas"), [name, share] = image.top[kind][frame][0];
      drawFrame(canvas, shownStrips[kind], frame);
      cells.push(make("figure", {}, canvas, make("figcaption", name === image.class ? { class: "own" } : {}, `${data.classes[name]} ${percent(share)}`)));
    }
  }
  $("class-film").append(...cells);
}

// The map.
const above = Object.keys(data.names).filter((control) => data.map[data.targets[0]][`above_${control}`]);
const short = { position: "position", mean_map: "mean label", random: "random weights", shuffled: "shuffled weights", latent: "latent", pixels: "pixels" };
const views = { score: "score", ...Object.fromEntries(above.map((control) => [`above_${control}`, short[control]])), selectivity: "control task" };
const range = (values) => [Math.min(...values), Math.max(...values)];
const known = (rows) => rows.flat().filter((value) => value !== null);

function colour(name, share) {
  const table = data.colours[name];
  return table[Math.round(Math.max(0, Math.min(1, share)) * (table.length - 1))];
}
function bestLayer(target, frame) {
  const column = data.map[target].validation.map((row) => row[frame]);
  return column.reduce((best, value, layer) => (value !== null && (best < 0 || value > column[best]) ? layer : best), -1);
}

function prepareMap() {
  for (const [view, name] of Object.entries(views)) {
    const input = make("input", { type: "radio", name: "view", value: view });
    input.checked = view === chosen.view;
    input.addEventListener("change", () => { chosen.view = view; showMap(); });
    if (view !== "score") input.setAttribute("aria-label", `above ${name}`);
    $("views").append(make("label", {}, input, make("span", {}, name)));
    if (view === "score") $("views").append(make("em", {}, "or above"));
  }
  const every = Math.ceil(frames / 8);
  for (const target of data.targets) {
    const head = make("tr", {}, make("th"), ...data.steps.map((step, i) => make("th", { scope: "col" }, i % every ? "" : step)));
    const body = make("tbody");
    data.layers.forEach((layer, l) => {
      const apart = l > 0 && layer.slice(0, 3) !== data.layers[l - 1].slice(0, 3);
      const cells = data.steps.map((_, s) => make("td", {}, make("button", { type: "button", tabindex: -1, "data-cell": `${target} ${l} ${s}` })));
      body.append(make("tr", apart ? { class: "apart" } : {}, make("th", { scope: "row" }, layer), ...cells));
    });
    const caption = make("caption", {}, make("b", {}, target), " ", make("span"));
    const ramp = make("div", { class: "ramp" }, make("span"), make("i"), make("span"));
    $("maps").append(make("div", { class: "map", id: `map-${target}` }, make("table", {}, caption, make("thead", {}, head), body), ramp));
  }
  $("maps").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) pick(button);
  });
  $("maps").addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -frames], End: [0, frames] }[event.key];
    const button = event.target.closest("button");
    if (!move || !button) return;
    event.preventDefault();
    const [target, l, s] = place(button);
    const layer = Math.max(0, Math.min(data.layers.length - 1, l + move[0])), frame = Math.max(0, Math.min(frames - 1, s + move[1]));
    cellButton(target, layer, frame).focus();
  });
  const [target, layer] = [data.targets[1], probed];
  chosen.cell = [target, layer, chosen.frame];
  showMap();
}
const place = (button) => { const [target, l, s] = button.dataset.cell.split(" "); return [target, Number(l), Number(s)]; };
const cellButton = (target, l, s) => $(`map-${target}`).querySelector(`[data-cell="${target} ${l} ${s}"]`);

function showMap() {
  const absolute = chosen.view === "score";
  $("struck-note").hidden = absolute;
  for (const target of data.targets) {
    const cells = data.map[target], values = cells[chosen.view];
    const [least, greatest] = range(known(values));
    const most = Math.max(Math.abs(least), Math.abs(greatest)) || 1;
    const [low, high] = absolute ? [least, greatest] : [-most, most];
    const map = absolute ? "viridis" : "RdBu";
    const panel = $(`map-${target}`);
    panel.querySelector("caption span").textContent = absolute ? data.scores[target] : `difference in ${data.scores[target]}`;
    for (const button of panel.querySelectorAll("button")) {
      const [, l, s] = place(button);
      const value = values[l][s];
      button.style.background = value === null ? "var(--wash)" : colour(map, (value - low) / (high - low || 1));
      button.classList.toggle("best", bestLayer(target, s) === l);
      const ends = absolute ? null : [cells[`${chosen.view}_low`][l][s], cells[`${chosen.view}_high`][l][s]];
      button.classList.toggle("struck", ends !== null && ends[0] <= 0 && ends[1] >= 0);
      button.setAttribute("aria-label", `${target}, ${data.layers[l]}, step ${data.steps[s]}: ${absolute ? fixed(value) : signed(value)}`);
    }
    const [from, bar, to] = panel.querySelector(".ramp").children;
    from.textContent = fixed(low);
    to.textContent = absolute ? fixed(high) : signed(high);
    bar.style.background = `linear-gradient(to right, ${data.colours[map].join(",")})`;
  }
  mark();
}
function mark() {
  for (const button of $("maps").querySelectorAll('[aria-current], [tabindex="0"]')) {
    button.removeAttribute("aria-current");
    button.tabIndex = -1;
  }
  const [chosenTarget, layer, frame] = chosen.cell;
  for (const target of data.targets) cellButton(target, layer, frame).tabIndex = 0;
  cellButton(chosenTarget, layer, frame).setAttribute("aria-current", "true");
}
function pick(button) {
  chosen.cell = place(button);
  mark();
  showCell();
}

function span(cells, name, l, s, sign = false) {
  const write = sign ? signed : fixed;
  const [value, low, high] = ["", "_low", "_high"].map((end) => cells[`${name}${end}`][l][s]);
  const shown = make("span", { "data-value": value }, `${write(value)} `);
  if (value !== null) shown.append(make("span", { class: "i" }, `[${write(low)}, ${write(high)}]`));
  return shown;
}
function showCell() {
  if (!strips) return;
  const [target, l, s] = chosen.cell;
  const cells = data.map[target], image = data.images[chosen.image], layer = data.layers[l], step = data.steps[s];
  const own = image.scores.probe[target][l][s];
  const pictures = make("div", { class: "trio" });
  const add = (name, label, drawn) => {
    const canvas = make("canvas", { role: "img", "aria-label": label });
    pictures.append(make("figure", {}, canvas, make("figcaption", {}, name)));
    drawn(canvas);
  };
  add("picture", `The half-denoised picture at step ${step}`, (canvas) => drawFrame(canvas, strips.zt, s));
  add(`probe, ${shortScore(target)} ${fixed(own)}`, `${target} as the probe of ${layer} reads it at step ${step}; ${data.scores[target]} ${fixed(own)}`, (canvas) => drawTokens(canvas, target, l, s));
  add("goal", `The label model’s ${target} of the finished picture`, (canvas) => drawFrame(canvas, strips[`zt-${target}`], frames));
  const score = make("p", { class: "big", id: "cell-score" }, fixed(cells.score[l][s]), make("small", {}, `[${fixed(cells.score_low[l][s])}, ${fixed(cells.score_high[l][s])}] ${data.scores[target]}`));
  score.dataset.value = cells.score[l][s];
  const left = make("div", {}, make("h3", {}, `${target}, ${layer}, step ${step}`), score, pictures);
  const rows = Object.entries(data.names).map(([control, name]) => {
    const of = data.controls[control][target], at = of.score.length > 1 ? l : 0;
    const difference = cells[`above_${control}`] ? span(cells, `above_${control}`, l, s, true) : "";
    return make("tr", { "data-control": control }, make("th", { scope: "row" }, name), make("td", {}, span(of, "score", at, s)), make("td", {}, difference));
  });
  rows.push(make("tr", { "data-control": "task" }, make("th", { scope: "row" }, "control task: the labels of other images"), make("td", {}, fixed(cells.control[l][s])), make("td", {}, span(cells, "selectivity", l, s, true))));
  const head = make("tr", {}, make("th", { scope: "col" }, "control"), make("th", { scope: "col" }, "its score"), make("th", { scope: "col" }, "this cell above it"));
  const note = `On validation images ${fixed(cells.validation[l][s])}; over draws of the split ${fixed(cells.splits_low[l][s], 3)} to ${fixed(cells.splits_high[l][s], 3)}.`;
  const right = make("div", {}, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)), make("p", { class: "note" }, note));
  $("cell").replaceChildren(left, right);
}

// The prompts.
function preparePrompts() {
  const texts = data.prompts.map((row) => row.slice(0, 3).join(" ").toLowerCase());
  const rows = data.prompts.map((row) => make("tr", {}, ...row.map((value) => make("td", {}, String(value)))));
  $("rows").append(...rows);
  const filter = () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), split = $("split").value;
    let count = 0;
    rows.forEach((row, i) => {
      row.hidden = !(words.every((word) => texts[i].includes(word)) && (!split || data.prompts[i][3] === split));
      count += !row.hidden;
    });
    $("found").textContent = `${count} of ${rows.length}`;
  };
  $("search").addEventListener("input", filter);
  $("split").addEventListener("change", filter);
  filter();
}

$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
// Beside another report (see scenescope.compare): what is chosen in one is chosen in the other, where it can be, and
// both are read at the same place.
const beside = parent !== window;
let following = false;
function tell() {
  if (!beside || following) return;
  const state = { ...chosen, image: data.images[chosen.image].id, classified: { ...named, image: data.classified[named.image].id } };
  parent.postMessage({ scenescope: state }, "*");
}
function follow(other) {
  following = true;
  const find = (images, id) => images.findIndex((one) => one.id === id);
  const image = find(data.images, other.image);
  if (other.kind !== chosen.kind) document.querySelector(`input[name="kind"][value="${other.kind}"]`)?.click();
  if (other.view !== chosen.view) document.querySelector(`input[name="view"][value="${other.view}"]`)?.click();
  if (image >= 0 && image !== chosen.image) $("choose").querySelectorAll("input")[image].click();
  if (other.frame !== chosen.frame) { play(false); go(other.frame); }
  const cell = other.cell && $(`map-${other.cell[0]}`)?.querySelector(`[data-cell="${other.cell.join(" ")}"]`);
  if (cell && other.cell.join() !== chosen.cell.join()) pick(cell);
  if (other.classified) { // pages of before had none
    const shown = find(data.classified, other.classified.image);
    if (shown >= 0 && shown !== named.image) $("class-choose").querySelectorAll("input")[shown].click();
    if (other.classified.frame !== named.frame) answerAt(other.classified.frame);
  }
  following = false;
}
// A place is a section and how far into it the window's upper edge is: the same section need not be equally long.
const sections = [...document.querySelectorAll("header, main > section, footer")];
let led = null; // where the other page has scrolled this one
function spans() {
  const tops = sections.map((section) => section.getBoundingClientRect().top + scrollY);
  return tops.map((top, i) => [top, tops[i + 1] ?? document.documentElement.scrollHeight]);
}
function tellPlace() {
  if (!beside || (led !== null && Math.abs(scrollY - led) < 2)) return;
  led = null;
  const all = spans(), at = Math.max(0, all.findLastIndex(([top]) => top <= scrollY));
  parent.postMessage({ scenescopePlace: [at, (scrollY - all[at][0]) / (all[at][1] - all[at][0])] }, "*");
}
function followTo([at, share]) {
  const [top, end] = spans()[at] ?? [scrollY, scrollY];
  led = Math.max(0, Math.min(top + share * (end - top), document.documentElement.scrollHeight - innerHeight));
  scrollTo({ top: led, behavior: "instant" });
}
addEventListener("message", (event) => {
  if (event.source !== parent || !event.data) return;
  if (event.data.scenescope) follow(event.data.scenescope);
  if (event.data.scenescopePlace) followTo(event.data.scenescopePlace);
});
for (const kind of ["input", "change", "click", "keyup"]) addEventListener(kind, tell);
addEventListener("scroll", tellPlace, { passive: true });

prepareScrubber();
prepareMap();
prepareChoice("class-choose", "classified", data.classified, showClassified, "class-step", answerAt);
preparePrompts();
showImage(0).then(() => showClassified(0)); // what is seen first is decoded first
