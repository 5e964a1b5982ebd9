"use strict";
// The frame viewer; `frames` is embedded in the page, with one object for each frame in order.
const frames = JSON.parse(document.getElementById("frames").textContent);
const viewer = document.querySelector(".viewer");
const part = (name) => viewer.querySelector(`[data-part="${name}"]`);
const cells = [...viewer.querySelectorAll(".strip button")];
const UNITS = { plane: "mm", depth: "mm", rotation: "°", latency: "ms" };
const PERIOD_MS = 140;
let current = 0;
let timer = null;

function show(index) {
  current = (index + frames.length) % frames.length;
  const frame = frames[current];
  part("xray").src = frame.xray;
  if (frame.edges) part("edges").src = frame.edges; else part("edges").removeAttribute("src");
  part("title").textContent = `Frame ${current}`;
  part("verdict").textContent = frame.verdict;
  part("verdict").className = `chip ${frame.verdict}`;
  part("reason").textContent = frame.reason;
  part("published").textContent = frame.published;
  part("error").textContent = frame.error ? `${frame.error} mm` : "no transform";
  part("label").textContent = frame.error ? "3-D error (mTRE)" : "nothing was published on /tf";
  for (const [name, unit] of Object.entries(UNITS)) part(name).textContent = frame[name] ? `${frame[name]} ${unit}` : "";
  cells.forEach((cell, n) => cell.setAttribute("aria-current", String(n === current)));
}

function play(active) {
  clearInterval(timer);
  timer = active ? setInterval(() => show(current + 1), PERIOD_MS) : null;
  part("play").textContent = active ? "Pause" : "Play";
}

cells.forEach((cell, n) => cell.addEventListener("click", () => { play(false); show(n); }));
part("play").addEventListener("click", () => play(timer === null));
part("lines").addEventListener("change", (event) => { part("edges").style.display = event.target.checked ? "" : "none"; });
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, summary, pre")) return;
  if (event.key === "ArrowRight") { play(false); show(current + 1); }
  if (event.key === "ArrowLeft") { play(false); show(current - 1); }
});
show(0);
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play(true);
