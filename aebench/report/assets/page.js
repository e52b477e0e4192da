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
  // Titles of groups lose their rows in any other order.
  for (const row of table.querySelectorAll("tr.title")) row.remove();
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
for (const point of document.querySelectorAll("a.pt")) {
  const here = () => show(point.getAttribute("aria-label"), point.getBoundingClientRect());
  point.addEventListener("pointerenter", here);
  point.addEventListener("focus", here);
  point.addEventListener("pointerleave", hide);
  point.addEventListener("blur", hide);
}
addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
addEventListener("scroll", hide, {passive: true});

// One of the test images, from the picture of all.
const sprite = $("sprite");
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
  const drawing = figure.querySelector("svg"), dots = [...drawing.querySelectorAll("circle")];
  const [run, method, kind] = figure.querySelectorAll("select");
  const words = [...figure.querySelectorAll("figcaption > *")];
  const said = words.map(one => one.textContent);
  let map = maps[0], places = [], at = null;

  function choose() {
    const methods = maps.filter(one => one.run === +run.value);
    map = methods.find(one => one.method === method.value) ?? methods[0];
    method.value = map.method;
    // What was said is of the first map.
    const now = map === maps[0] ? said : [
      `${map.method} of the codes of ${run.selectedOptions[0].textContent}`,
      "A point is a test image, hollow where the vote is wrong.",
    ];
    words.forEach((one, i) => { one.textContent = now[i]; });
    const bytes = atob(map.places);
    places = dots.map((_, i) => [bytes.charCodeAt(2 * i), 255 - bytes.charCodeAt(2 * i + 1)]);
    dots.forEach((dot, i) => {
      [dot.cx.baseVal.value, dot.cy.baseVal.value] = places[i];
      dot.classList.toggle("no", map.votes[i] !== labels[i]);
      dot.classList.toggle("off", kind.value !== "" && labels[i] !== +kind.value);
    });
    leave();
  }
  function go(index) {
    if (at !== null) dots[at].classList.remove("at");
    at = index;
    dots[at].classList.add("at");
    const right = map.votes[at] === labels[at];
    const text = classes[labels[at]] + (right ? ", and so its neighbours say" :
      `, its neighbours say ${classes[map.votes[at]]}`);
    show(text, dots[at].getBoundingClientRect(), ...(sprite ? [tile(at)] : []));
  }
  function leave() {
    if (at !== null) dots[at].classList.remove("at");
    hide();
  }
  // The index with the least distance, of the images that are shown.
  function nearest(distance, most) {
    let best = -1;
    places.forEach((place, i) => {
      const found = dots[i].classList.contains("off") ? Infinity : distance(place, i);
      if (found < most) [best, most] = [i, found];
    });
    return best;
  }
  drawing.addEventListener("pointermove", event => {
    const point = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(drawing.getScreenCTM().inverse());
    const found = nearest(([x, y]) => (x - point.x) ** 2 + (y - point.y) ** 2, 36);
    if (found < 0) leave(); else go(found);
  });
  drawing.addEventListener("pointerleave", leave);
  drawing.addEventListener("blur", leave);
  drawing.addEventListener("keydown", event => {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (!step) return;
    event.preventDefault();
    if (at === null || dots[at].classList.contains("off")) {
      const first = nearest((_, i) => i, Infinity);
      if (first >= 0) go(first);
      return;
    }
    const [x, y] = places[at];
    // Images on one place are walked through by their number.
    const found = nearest((place, i) => {
      const [dx, dy] = [place[0] - x, place[1] - y];
      const along = dx * step[0] + dy * step[1];
      return along > 0 ? along + 2 * Math.abs(dx * step[1] + dy * step[0]) + i * 1e-6 : Infinity;
    }, Infinity);
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
function difference(name, factor, digits, unit, a, b) {
  const [values, pairs] = name === "accuracy" ?
    [data.accuracies, data.accuracy] : [data.mses, data.mse];
  const found = a > b ? pairs[a][b] : pairs[b][a];
  const row = element("tr", element("th", name === "mse" ? "MSE" : name));
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
  const better = (mean > 0) === (name === "accuracy") ? "A" : "B";
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
    $("compared").replaceChildren(element("p", "A and B are the same run."));
    return;
  }
  const head = element("tr", ...["", "A", "B", "A \u2212 B", ""].map(words => {
    const cell = element(words ? "th" : "td", words);
    if (words) cell.scope = "col";
    return cell;
  }));
  const rows = [
    difference("accuracy", 100, 2, "points", a, b), difference("mse", 1, 5, "", a, b),
  ];
  const whole = element("div", element("table", element("thead", head), element("tbody", ...rows)));
  whole.className = "scroll";
  whole.tabIndex = 0;
  whole.setAttribute("role", "group");
  whole.setAttribute("aria-label", "Table of the differences");
  const words = `Of ${data.images.toLocaleString("en")} test images, A alone finds the class of ` +
    `${data.gained[a][b].toLocaleString("en")}, B alone that of ` +
    `${data.gained[b][a].toLocaleString("en")} (by the first seed of each).`;
  const parts = [whole, element("p", words)];
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
  if (sprite) sprite.decode().then(pair); else pair();
}
