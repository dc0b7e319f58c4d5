"use strict";
// The review page. Data from the server are set as text, never as HTML. An answer stays in `unsent` until its record is
// stored; it has a number, so that sending it again changes nothing.

const AHEAD = 2; // items fetched before they are needed, with their pictures
const $ = (id) => document.getElementById(id);
const state = { reviewer: "", classes: [], current: null, ahead: [], history: [], unsent: [], busy: false, done: false };

async function request(path, options) {
  const response = await fetch(path, options);
  if (response.status === 401) { location.assign("/login"); }
  const body = await response.json();
  if (!response.ok) {
    const error = new Error(body.fix ? `${body.message}; ${body.fix}` : body.message);
    error.status = response.status;
    throw error;
  }
  return body;
}

function text(tag, value, name) {
  const element = document.createElement(tag);
  element.textContent = value;
  if (name) { element.className = name; }
  return element;
}

function say(message, isProblem) {
  $("state").textContent = message;
  $("state").className = isProblem ? "problem" : "quiet";
}

// --- what the page shows

function showProgress(progress) {
  const share = (count) => `${100 * count / Math.max(1, progress.items)}%`;
  $("bar-answered").style.width = share(progress.answered);
  $("bar-refused").style.width = share(progress.refused);
  const number = (count) => count.toLocaleString("en");
  $("counts").textContent = `${number(progress.answered)} of ${number(progress.items)} items answered, ` +
    `${number(progress.refused)} refused; ${number(progress.spent)} of ${number(progress.budget)} answers`;
  $("reviewer").textContent = `${state.reviewer}: ${number(progress.mine)}`;
}

function show(offer) {
  state.current = offer;
  const picture = $("picture");
  $("no-picture").hidden = true;
  picture.hidden = offer === null;
  $("caption").textContent = offer ? offer.caption : "";
  $("caption").scrollTop = 0;
  $("current").textContent = offer ? (offer.label ?? "(none)") : "";
  $("uid").textContent = offer ? offer.uid : "";
  $("best").replaceChildren();
  $("best-title").hidden = !offer || !offer.best.length;
  document.body.dataset.item = offer ? String(offer.item) : "";
  if (!offer) {
    picture.removeAttribute("src");
    return;
  }
  picture.src = `/pictures/${offer.item}`;
  for (const one of offer.best) {
    const row = document.createElement("li");
    const known = state.classes.find((item) => item.label === one.label);
    row.append(text("kbd", known ? known.key : ""), text("span", one.label),
      text("span", `${(100 * one.probability).toFixed(0)} %`, "share"));
    $("best").append(row);
  }
  for (const row of $("classes").children) {
    row.classList.toggle("is-current", row.dataset.label === offer.label);
  }
}

function showClasses() {
  $("classes").replaceChildren(...state.classes.map((item) => {
    const row = document.createElement("li");
    row.append(text("kbd", item.key), text("span", item.label));
    row.dataset.label = item.label;
    row.addEventListener("click", () => answer("label", item.label));
    return row;
  }));
}

// --- items

async function fetchAhead() {
  if (state.busy || (state.done && state.current)) { return; }
  state.busy = true;
  state.done = false; // with nothing on the screen, ask again: another reviewer may have left an item
  try {
    while (state.ahead.length < AHEAD && !state.done) {
      const have = [state.current, ...state.ahead, ...state.unsent].filter(Boolean).map((one) => one.item);
      const query = new URLSearchParams({ reviewer: state.reviewer, skip: have.join(",") });
      const { offer, progress } = await request(`/api/next?${query}`);
      if (!state.unsent.length) { showProgress(progress); }
      if (!offer) { state.done = true; break; }
      new Image().src = `/pictures/${offer.item}`;
      if (state.current === null) { show(offer); } else { state.ahead.push(offer); }
    }
    if (state.done && state.current === null) { say("No item is left for you. Thank you."); }
  } catch (error) {
    say(`${error.message}; trying again`, true);
    setTimeout(fetchAhead, 2000);
  } finally {
    state.busy = false;
  }
}

function advance() {
  show(state.ahead.shift() ?? null);
  fetchAhead();
}

// --- answers

function answer(kind, label) {
  const offer = state.current;
  if (!offer) { return; }
  const sent = { reviewer: state.reviewer, item: offer.item, n: offer.n, kind };
  if (label !== undefined) { sent.label = label; }
  state.unsent.push(sent);
  state.history.push({ offer, n: offer.n });
  say(kind === "label" ? `${label} (item ${offer.item})` : `can't tell (item ${offer.item})`);
  advance();
  flush();
}

let flushing = null;
function flush() {
  flushing ??= sendAll().finally(() => { flushing = null; });
  return flushing;
}

async function sendAll() {
  while (state.unsent.length) {
    const sent = state.unsent[0];
    try {
      const { progress } = await request("/api/answer", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent),
      });
      showProgress(progress);
      document.body.dataset.stored = String(Number(document.body.dataset.stored || 0) + 1);
      state.unsent.shift();
    } catch (error) {
      if (error.status && error.status < 500) {
        state.unsent.shift();
        state.history = state.history.filter((one) => one.offer.item !== sent.item);
        say(`item ${sent.item}: ${error.message}`, true);
      } else {
        say(`not stored yet, trying again: ${error.message}`, true);
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }
  fetchAhead();
}

async function undo() {
  const last = state.history.pop();
  if (!last) { say("nothing to undo"); return; }
  state.unsent.push({ reviewer: state.reviewer, item: last.offer.item, n: last.n + 1, kind: "undo" });
  if (state.current) { state.ahead.unshift(state.current); }
  state.done = false;
  show({ ...last.offer, n: last.n + 2 });
  say(`took back the answer to item ${last.offer.item}`);
  await flush();
}

// --- keys

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("review").hidden) { return; }
  if (!$("search").hidden) { return; }
  if (event.key === "Backspace" || event.key === "u" || event.key === "z") {
    undo();
  } else if (event.key === " ") {
    answer("cannot_tell");
  } else if (event.key === "/") {
    $("search").hidden = false;
    $("search-text").value = "";
    $("search-found").textContent = "";
    $("search-text").focus();
  } else {
    const found = state.classes.find((item) => item.key !== "" && item.key === event.key);
    if (!found) { return; }
    answer("label", found.label);
  }
  event.preventDefault();
}

function found() {
  const wanted = $("search-text").value.trim().toLowerCase();
  const names = state.classes.map((item) => item.label);
  return wanted ? names.find((name) => name.toLowerCase().startsWith(wanted)) ??
    names.find((name) => name.toLowerCase().includes(wanted)) : undefined;
}

function closeSearch() {
  $("search").hidden = true;
  $("search-text").blur();
}

$("search-text").addEventListener("input", () => { $("search-found").textContent = found() ?? ""; });
$("search-text").addEventListener("keydown", (event) => {
  if (event.key === "Escape") { closeSearch(); }
  event.stopPropagation();
});
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = found();
  closeSearch();
  if (label !== undefined) { answer("label", label); }
});
$("picture").addEventListener("load", () => {
  $("picture").classList.toggle("small", Math.max($("picture").naturalWidth, $("picture").naturalHeight) <= 160);
});
$("picture").addEventListener("error", async () => {
  const item = state.current?.item;
  const response = await fetch(`/pictures/${item}`).catch(() => null);
  const body = response && !response.ok ? await response.json().catch(() => null) : null;
  if (state.current?.item !== item) { return; }
  $("picture").hidden = true;
  $("no-picture").hidden = false;
  $("no-picture").textContent = body ? `This picture can't be shown: ${body.error}` : "This picture can't be shown.";
});
document.addEventListener("keydown", pressed);
window.addEventListener("beforeunload", (event) => { if (state.unsent.length) { event.preventDefault(); } });

// --- start

async function start(name) {
  state.reviewer = name.trim().toLowerCase();
  const query = new URLSearchParams({ reviewer: state.reviewer });
  const { progress } = await request(`/api/next?${query}`);
  localStorage.setItem("reviewer", state.reviewer);
  $("who").hidden = true;
  $("review").hidden = false;
  document.activeElement?.blur();
  showProgress(progress);
  await fetchAhead();
}

async function open() {
  const queue = await request("/api/queue");
  state.classes = queue.classes;
  showClasses();
  const known = queue.reviewer || localStorage.getItem("reviewer");
  if (queue.reviewer) { await start(known); return; }
  $("who").hidden = false;
  $("name").value = known ?? "";
  $("name").focus();
}

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  start($("name").value).catch((error) => {
    $("name-problem").hidden = false;
    $("name-problem").textContent = error.message;
  });
});
open().catch((error) => say(error.message, true));
