"use strict";

const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);

function element(name, ...inside) {
  const found = document.createElement(name);
  found.append(...inside);
  return found;
}

// A number by its value, a text by its letters; what has none comes last either way.
function compare(one, other, sign) {
  if (one === "" || other === "") return (one === "") - (other === "");
  const difference = one - other;
  return sign * (Number.isNaN(difference) ? one.localeCompare(other) : difference);
}
DataTable.type("figure", {order: {
  asc: (one, other) => compare(one, other, 1),
  desc: (one, other) => compare(one, other, -1),
}});
for (const table of document.querySelectorAll("table.results")) {
  new DataTable(table, {
    paging: false, order: [], autoWidth: false, columnDefs: [{targets: "_all", type: "figure"}],
    layout: {topStart: "search", topEnd: "info", bottomStart: null, bottomEnd: null},
    language: {
      search: "Filter", info: "_TOTAL_ of _MAX_ runs", infoEmpty: "0 of _MAX_ runs", infoFiltered: "",
      zeroRecords: "No run matches the filter.",
    },
  });
}

// What is pointed at.
const tip = $("tip");
function show(text, box, ...pictures) {
  tip.replaceChildren(...pictures, text);
  tip.hidden = false;
  const left = Math.min(box.right + 8, innerWidth - tip.offsetWidth - 4);
  const below = box.bottom + 8 + tip.offsetHeight <= innerHeight;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, below ? box.bottom + 8 : box.top - 8 - tip.offsetHeight)}px`;
}
const hide = () => { tip.hidden = true; };
const said = point => show(point.getAttribute("aria-label"), point.getBoundingClientRect());
addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
addEventListener("scroll", () => {
  // A point that keys have led to may have been scrolled to.
  if (document.activeElement.matches("a.pt")) said(document.activeElement); else hide();
}, {passive: true});

// The index with the least distance below `most`.
function least(distances, most = Infinity) {
  let best = -1;
  distances.forEach((distance, i) => {
    if (distance < most) [best, most] = [i, distance];
  });
  return best;
}
// Where an arrow key leads from one of the places; null for another key.
function toward(key, places, at) {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[key];
  if (!step) return null;
  if (at < 0) return least(places.map((place, i) => place ? i : Infinity));
  const [x, y] = places[at];
  return least(places.map((place, i) => {
    if (!place) return Infinity;
    const [dx, dy] = [place[0] - x, place[1] - y];
    // What is on one place is walked through by its number.
    const along = dx || dy ? dx * step[0] + dy * step[1] : 1e-3 * (i - at) * (step[0] + step[1]);
    return along > 0 ? along + 2 * Math.abs(dx * step[1] + dy * step[0]) : Infinity;
  }));
}

// The points of a chart: one stop for the tab key, from which the arrow keys lead to all.
function chart(drawing, points) {
  drawing.tabIndex = 0;
  drawing.addEventListener("keydown", event => {
    const places = points.map(point => {
      const box = point.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    });
    const found = toward(event.key, places, points.indexOf(document.activeElement));
    if (found === null) return;
    event.preventDefault();
    if (found >= 0) points[found].focus();
  });
  for (const point of points) {
    point.addEventListener("pointerenter", () => said(point));
    point.addEventListener("focus", () => said(point));
    point.addEventListener("pointerleave", hide);
    point.addEventListener("blur", hide);
  }
}
for (const drawing of document.querySelectorAll("figure > svg")) {
  const points = [...drawing.querySelectorAll("a.pt")];
  if (points.length) chart(drawing, points);
}

// One of the test images, from the picture of all.
let sprite = $("sprite");
function tile(index) {
  const columns = +sprite.dataset.columns, rows = Math.ceil(sprite.dataset.count / columns);
  const [width, height] = [sprite.naturalWidth / columns, sprite.naturalHeight / rows];
  const canvas = element("canvas");
  [canvas.width, canvas.height, canvas.className] = [width, height, "tile"];
  const [left, top] = [index % columns * width, Math.floor(index / columns) * height];
  canvas.getContext("2d").drawImage(sprite, left, top, width, height, 0, 0, width, height);
  return canvas;
}

function walk(figure) {
  const {maps, labels, classes} = JSON.parse(figure.querySelector("script").textContent);
  const drawing = figure.querySelector(":scope > svg"), dots = [...drawing.querySelectorAll("use")];
  const [run, method, kind] = figure.querySelectorAll("select");
  const words = [...figure.querySelectorAll("figcaption > *")];
  const first = words.map(one => one.textContent);
  let map = maps[0], places = [], at = -1;

  function choose() {
    const methods = maps.filter(one => one.run === +run.value);
    map = methods.find(one => one.method === method.value) ?? methods[0];
    method.value = map.method;
    // What was said is of the first map.
    const now = map === maps[0] ? first : [
      `${map.method} of the codes of ${run.selectedOptions[0].textContent}`,
      "A point is a test image, hollow where the vote is wrong.",
    ];
    words.forEach((one, i) => { one.textContent = now[i]; });
    const bytes = atob(map.places);
    places = dots.map((_, i) => [bytes.charCodeAt(2 * i), 255 - bytes.charCodeAt(2 * i + 1)]);
    dots.forEach((dot, i) => {
      [dot.x.baseVal.value, dot.y.baseVal.value] = places[i];
      dot.classList.toggle("no", map.votes[i] !== labels[i]);
      dot.classList.toggle("off", kind.value !== "" && labels[i] !== +kind.value);
    });
    leave();
  }
  // Those of the images that are shown.
  const shown = () => places.map((one, i) => dots[i].classList.contains("off") ? null : one);
  function go(index) {
    if (index === at && !tip.hidden) return;
    dots[at]?.classList.remove("at");
    at = index;
    dots[at].classList.add("at");
    const right = map.votes[at] === labels[at];
    const text = classes[labels[at]] + (right ? ", and so its neighbours say" :
      `, its neighbours say ${classes[map.votes[at]]}`);
    show(text, dots[at].getBoundingClientRect(), ...(sprite ? [tile(at)] : []));
  }
  function leave() {
    dots[at]?.classList.remove("at");
    hide();
  }
  drawing.addEventListener("pointermove", event => {
    const point = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(drawing.getScreenCTM().inverse());
    const distance = ([x, y]) => (x - point.x) ** 2 + (y - point.y) ** 2;
    const found = least(shown().map(place => place ? distance(place) : Infinity), 36);
    if (found < 0) leave(); else go(found);
  });
  drawing.addEventListener("pointerleave", leave);
  drawing.addEventListener("blur", leave);
  drawing.addEventListener("keydown", event => {
    const found = toward(event.key, shown(), dots[at]?.classList.contains("off") ? -1 : at);
    if (found === null) return;
    event.preventDefault();
    if (found >= 0) go(found);
  });
  for (const select of [run, method, kind]) select.addEventListener("change", choose);
  figure.querySelector("fieldset").hidden = false;
  choose();
}
document.querySelectorAll("figure.map").forEach(walk);

// Two runs side by side.
const SHOWN = 12;
const signed = (value, digits) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);
function difference({title, unit, sign, factor, digits, values, pairs}, a, b) {
  const found = a > b ? pairs[a][b] : pairs[b][a];
  const row = element("tr", element("th", title));
  row.firstChild.scope = "row";
  const own = [a, b].map(i => values[i] === null ? "" : (factor * values[i]).toFixed(digits));
  row.append(...own.map(text => element("td", text)));
  if (!found) {
    row.append(element("td"), element("td", "nothing to compare"));
    return row;
  }
  const mean = a > b ? found[0] : -found[0], half = found[1];
  const spread = element("span", half === null ? "" : ` \u00b1 ${(factor * half).toFixed(digits)}`);
  spread.className = "spread";
  const told = half !== null && Math.abs(mean) > half;
  const better = sign * mean > 0 ? "A" : "B";
  row.append(element("td", signed(factor * mean, digits), spread, ` ${unit}`),
    element("td", told ? `${better} is better` : mean === 0 ? "same" : "not told apart"));
  return row;
}
function pictures(title, indices, a, b) {
  const list = element("ul");
  list.className = "tiles";
  for (const i of indices.slice(0, SHOWN)) {
    const votes = [a, b].map((run, side) => {
      const vote = data.votes[run][i], error = data.errors[run]?.[i];
      const mark = vote === data.labels[i] ? "\u2713" : "\u2717";
      const text = `${"AB"[side]} ${mark} ${data.classes[vote]}`;
      return element("small", text + (error == null ? "" : ` \u00b7 ${error.toPrecision(2)}`));
    });
    list.append(element("li", tile(i), element("b", data.classes[data.labels[i]]), ...votes));
  }
  return [element("h3", `${title}: ${indices.length}`), indices.length ? list : ""];
}
function pair() {
  const [a, b] = [+$("sideA").value, +$("sideB").value];
  if (a === b) {
    $("sentence").textContent = "A and B are the same run.";
    $("compared").replaceChildren();
    return;
  }
  const head = element("tr", ...["", "A", "B", "A \u2212 B", ""].map(words => {
    const cell = element(words ? "th" : "td", words);
    if (words) cell.scope = "col";
    return cell;
  }));
  const rows = data.measures.map(measure => difference(measure, a, b));
  const whole = element("div", element("table", element("thead", head), element("tbody", ...rows)));
  whole.className = "scroll";
  whole.tabIndex = 0;
  whole.setAttribute("role", "group");
  whole.setAttribute("aria-label", "Table of the differences");
  $("sentence").textContent = `Of ${data.images.toLocaleString("en")} test images, A alone finds the class of ` +
    `${data.gained[a][b].toLocaleString("en")}, B alone that of ` +
    `${data.gained[b][a].toLocaleString("en")} (by the first seed of each).`;
  const parts = [whole];
  if (sprite) {
    const all = data.labels.map((_, i) => i);
    const errors = [a, b].map(run => data.errors[run]);
    const apart = i => Math.abs(errors[0][i] - errors[1][i]);
    const known = errors[0] && errors[1];
    if (known) all.sort((i, j) => apart(j) - apart(i));
    const right = (run, i) => data.votes[run][i] === data.labels[i];
    parts.push(
      element("p", `Where they differ most, among ${all.length.toLocaleString("en")} of these ` +
        `images (at most ${SHOWN} of each kind; class, and each one's vote and MSE):`),
      ...pictures("A alone is right", all.filter(i => right(a, i) && !right(b, i)), a, b),
      ...pictures("B alone is right", all.filter(i => right(b, i) && !right(a, i)), a, b));
    if (known) {
      const order = run => all.filter(i => (errors[0][i] < errors[1][i]) === (run === 0));
      parts.push(...pictures("A's error is smaller", order(0).filter(i => apart(i) > 0), a, b),
        ...pictures("B's error is smaller", order(1).filter(i => apart(i) > 0), a, b));
    }
  }
  $("compared").replaceChildren(...parts);
}
if (data) {
  $("chooser").hidden = false;
  for (const side of "AB") $(`side${side}`).addEventListener("change", pair);
  // Without the images there is less to show, but all of the figures.
  Promise.resolve(sprite?.decode()).catch(() => { sprite = null; }).then(pair);
}

// Paper has nothing to open.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
