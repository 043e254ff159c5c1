"use strict";
// Line charts as SVG. A chart is {title, series: [{label, points: [[x, y], ...]}]}; up to three series.

const WIDTH = 420, HEIGHT = 210, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 24, TICKS = 4;

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Round numbers within a range, about TICKS of them, as [number, its text].
function ticks(low, high) {
  const rough = (high - low) / TICKS, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step * 1.0001)));
  const found = [];
  for (let number = Math.ceil(low / step); number * step <= high; number += 1) {
    found.push([number * step, (number * step).toFixed(Math.min(digits, 20))]);
  }
  return found;
}

function short(value) { return String(Number(value.toPrecision(4))); }

function range(values) {
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 10, high + (Math.abs(high) || 1) / 10];
  return [low, high];
}

function drawChart({title, series}) {
  const points = series.flatMap((each) => each.points);
  const [x0, x1] = range(points.map(([x]) => x)), [low, high] = range(points.map(([, y]) => y));
  const y0 = low - (high - low) * 0.06, y1 = high + (high - low) * 0.06;
  const x = (value) => LEFT + (WIDTH - LEFT - RIGHT) * (value - x0) / (x1 - x0);
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y0) / (y1 - y0);
  const words = series.map(({label, points: all}) => `${label} ${short(all.at(-1)[1])}`).join(", ");
  const picture = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
                              "aria-label": `${title}, at step ${points.at(-1)[0]}: ${words}`});
  for (const [tick, text] of ticks(y0, y1)) picture.append(
    svg("line", {class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick)}),
    svg("text", {x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end"}, text));
  for (const [tick, text] of ticks(x0, x1).filter(([step]) => Number.isInteger(step))) picture.append(
    svg("text", {x: x(tick), y: HEIGHT - 6, "text-anchor": "middle"}, text));
  series.forEach(({points: all}, number) => {
    const kind = `s${number + 1}`;
    picture.append(svg("polyline", {class: `${kind} line-of`,
      points: all.map((point) => `${x(point[0])},${y(point[1])}`).join(" ")}));
    picture.lastChild.style.fill = "none";
    if (all.length < 30) for (const point of all) {
      picture.append(svg("circle", {class: kind, cx: x(point[0]), cy: y(point[1]), r: 2.5}));
    }
  });
  const figure = document.createElement("figure");
  figure.className = "chart";
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.append(caption, picture, legend(series));
  return figure;
}

function legend(series) {
  const list = document.createElement("ul");
  list.className = "legend";
  series.forEach(({label, points}, number) => {
    const item = document.createElement("li");
    item.append(svg("svg", {viewBox: "0 0 30 10", "aria-hidden": "true"},
      svg("line", {class: `s${number + 1} line-of`, x1: 0, x2: 30, y1: 5, y2: 5, "stroke-width": 2.5})),
      `${label} ${short(points.at(-1)[1])}`);
    list.append(item);
  });
  return list;
}
