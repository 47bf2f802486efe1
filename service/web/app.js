// The page holds no state that the service does not: a question (a picture, or an item's id), its answer, and what is shown of it.

import { askForKey, hasKey, keyHeaders, onKey } from "./key.js";

const LIMIT = 24;
const SOURCES = {
  request: "asked for",
  collection: "set for this collection",
  calibrated: "calibrated on this collection",
  model_default: "the model's default",
};

// Statuses that the same picture would get again.
const PICTURES_FAULT = [413, 415, 422];

const $ = (id) => document.getElementById(id);
const main = $("main");
const number = new Intl.NumberFormat("en");
const score = (value) => value.toFixed(2);

/** The question last asked: {picture: Blob, name} or {item: id}; with `anyway` the threshold is put aside. */
let question = null;
/** The picture last asked about, for the way back from an item's look-alikes. */
let lastPicture = null;
/** Aborts the request under way, so that a late answer never replaces a newer one. */
let underWay = null;

// ---- talking to the service ----

/** An answer that is an error, in the words of its problem+json; `status` is 0 where there was no answer. */
class Refused extends Error {
  constructor(status, title, detail) {
    super(detail);
    this.status = status;
    this.title = title;
  }
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: keyHeaders() });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The service does not answer", "It may be restarting. Try again in a moment.");
  }
  if (response.ok) return response.json();
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // Not JSON: something between us and the service answered, and the status is all there is.
  }
  if (response.status === 401) askForKey(problem.detail?.split(";")[0] ?? "The key was refused");
  throw new Refused(response.status, problem.title ?? `Error ${response.status}`, problem.detail ?? response.statusText);
}

// The path under which a proxy shows this service: this file is static/app.js below it.
const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
const collectionPath = () => `${ROOT}/v1/collections/${encodeURIComponent($("collection").value)}`;

function request(asked, signal) {
  if (asked.item !== undefined) {
    const query = new URLSearchParams({ limit: LIMIT });
    if (asked.anyway) query.set("score_threshold", "-1");
    return call(`${collectionPath()}/items/${encodeURIComponent(asked.item)}/similar?${query}`, { signal });
  }
  const form = new FormData();
  form.append("image", asked.picture, asked.name);
  form.append("limit", LIMIT);
  if (asked.anyway) form.append("score_threshold", "-1");
  return call(`${collectionPath()}/search`, { method: "POST", body: form, signal });
}

// ---- asking ----

async function ask(next) {
  question = next;
  underWay?.abort();
  const mine = new AbortController();
  underWay = mine;
  showQuestion(next);
  showWaiting();
  try {
    const answer = await request(next, mine.signal);
    if (underWay === mine) showAnswer(answer);
  } catch (error) {
    if (underWay === mine && error.name !== "AbortError") showError(error);
  }
}

function askPicture(file) {
  if (!file) return;
  history.replaceState(null, "", address());
  lastPicture = { picture: file, name: file.name || "picture" };
  ask(lastPicture);
}

function askItem(result) {
  history.pushState(null, "", address(result.id));
  $("results").focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
  ask({ item: result.id });
}

function address(item) {
  const query = new URLSearchParams({ collection: $("collection").value });
  if (item !== undefined) query.set("similar", item);
  return `/?${query}`;
}

// ---- showing ----

function showQuestion(asked) {
  const preview = $("preview");
  if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
  preview.hidden = false;
  preview.onerror = () => { preview.hidden = true; };
  if (asked.item !== undefined) {
    showStored(preview, asked);
    preview.alt = `The catalogue's ${asked.item}`;
    $("caption").textContent = asked.item;
  } else {
    preview.src = URL.createObjectURL(asked.picture);
    preview.alt = "Your picture";
    $("caption").textContent = asked.name;
  }
  $("caption").hidden = false;
}

/** An item's picture. An <img> sends no key, so where there is one the picture is fetched. */
async function showStored(preview, asked) {
  const path = `${collectionPath()}/items/${encodeURIComponent(asked.item)}/thumbnail`;
  if (!hasKey()) {
    preview.src = path;
    return;
  }
  const response = await fetch(path, { headers: keyHeaders() }).catch(() => null);
  if (question !== asked) return;
  if (response?.ok) preview.src = URL.createObjectURL(await response.blob());
  else preview.hidden = true;
}

function show(state, announcement) {
  main.dataset.state = state;
  $("none").hidden = state !== "none";
  $("error").hidden = state !== "error";
  $("results").setAttribute("aria-busy", String(state === "waiting"));
  $("live").textContent = announcement;
}

function showWaiting() {
  $("summary").textContent = "Looking…";
  $("grid").replaceChildren(...Array.from({ length: 8 }, waitingCard));
  show("waiting", "Looking for look-alikes");
}

function showAnswer(answer) {
  const took = `${Math.round(answer.took_ms.total)} ms`;
  const among = `${number.format(answer.filtered_count)} ${answer.filtered_count === 1 ? "picture" : "pictures"}`;
  $("grid").replaceChildren(...answer.results.map(card));
  if (answer.no_match) {
    $("summary").textContent = `${among} searched · ${took}`;
    showNone(answer);
    return;
  }
  const kind = question.anyway ? ["nearest picture", "nearest pictures"] : ["look-alike", "look-alikes"];
  const shown = `${answer.results.length} ${answer.results.length === 1 ? kind[0] : kind[1]}`;
  $("summary").textContent = `${shown} among ${among} · ${took}`;
  show("answered", `${shown}, the best with a score of ${score(answer.best_score)}`);
}

function showNone(answer) {
  const { best_score: best, score_threshold: needed, threshold_source: source } = answer;
  const reason = answer.message.split(": ")[1]; // where it is not the score: the picture itself
  const empty = best === null || reason !== undefined;
  $("none-text").textContent = reason
    ? `${reason[0].toUpperCase()}${reason.slice(1)}.`
    : empty
    ? "There is nothing in this collection to compare with yet."
    : `The nearest picture scores ${score(best)}; a look-alike needs ${score(needed)} here (${SOURCES[source] ?? source}).`;
  $("scale").hidden = empty;
  $("anyway").hidden = empty;
  if (!empty) {
    $("scale").style.setProperty("--best", share(best));
    $("scale").style.setProperty("--needed", share(needed));
  }
  show("none", `No similar images. ${$("none-text").textContent}`);
}

function showError(error) {
  if (error.status === 401) {
    $("summary").textContent = "";
    $("grid").replaceChildren();
    show("idle", "");
    return; // the form for the key says it
  }
  $("grid").replaceChildren();
  $("summary").textContent = "";
  $("error-title").textContent = error.title ?? "Something went wrong on this page";
  $("error-text").textContent = error.message;
  const itsFault = PICTURES_FAULT.includes(error.status) && question?.picture !== undefined;
  $("retry").hidden = itsFault;
  $("other").hidden = !itsFault;
  show("error", "");
}

function share(value) {
  return Math.min(1, Math.max(0, value));
}

/** An element with a class and, where given, text. Text only: nothing from the catalogue is ever read as markup. */
function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function nameOf({ id, metadata }) {
  const { name, title, label } = metadata;
  return [name, title, label].find((value) => typeof value === "string" && value !== "") ?? id;
}

function card(result) {
  const name = nameOf(result);
  const item = element("li", "card");
  const text = element("div", "text");
  const nameLine = element("p", "name", name);
  nameLine.title = result.id;
  const scoreLine = element("p", "score", score(result.score));
  const track = element("span", "track");
  track.style.setProperty("--share", share(result.score));
  scoreLine.prepend(track);
  const similar = element("button", "similar", "Find similar");
  similar.type = "button";
  similar.setAttribute("aria-label", `Find similar to ${name}`);
  similar.addEventListener("click", () => askItem(result));
  text.append(nameLine, scoreLine, similar);
  item.append(thumbnail(result, name), text);
  return item;
}

function thumbnail(result, name) {
  if (!result.thumbnail_url) return letter(name);
  const image = element("img", "thumb");
  image.src = result.thumbnail_url;
  image.alt = name;
  image.loading = "lazy";
  image.addEventListener("error", () => image.replaceWith(letter(name)));
  return image;
}

/** In the place of a picture, for an item without one, such as an imported vector. */
function letter(name) {
  const shown = element("div", "thumb letter", name.slice(0, 1).toUpperCase());
  shown.setAttribute("aria-hidden", "true");
  return shown;
}

function waitingCard() {
  const item = element("li", "card waiting");
  item.setAttribute("aria-hidden", "true");
  const text = element("div", "text");
  text.append(element("span", "stroke"), element("span", "stroke short"));
  item.append(element("div", "thumb"), text);
  return item;
}

// ---- collections: their names, and a count that grows while pictures are imported ----

async function refreshCollections() {
  const { items } = await call(`${ROOT}/v1/collections?limit=1000`);
  const select = $("collection");
  const names = items.map((each) => each.name);
  if (names.join() !== Array.from(select.options, (option) => option.value).join()) {
    const wanted = select.value || new URLSearchParams(location.search).get("collection");
    select.replaceChildren(...names.map((name) => new Option(name)));
    const fullest = items.reduce((best, each) => (each.count > best.count ? each : best));
    select.value = names.includes(wanted) ? wanted : fullest.name;
    select.disabled = false;
    showGone(wanted);
  }
  showCount(items.find((each) => each.name === select.value));
}

/** Says that a collection that was asked for is not there, and which one is shown in its place. */
function showGone(wanted) {
  const shown = $("collection").value;
  const gone = Boolean(wanted) && wanted !== shown;
  $("gone").hidden = !gone;
  $("gone").textContent = gone ? `There is no collection ${wanted} here; this is ${shown}.` : "";
}

function showCount({ name, count }) {
  const label = $("count");
  const before = label.dataset.name === name ? Number(label.dataset.count) : count;
  label.classList.toggle("growing", count > before);
  label.dataset.name = name;
  label.dataset.count = count;
  label.textContent = `${number.format(count)} ${count === 1 ? "picture" : "pictures"}`;
  label.title = count > before ? "Pictures are being imported" : "";
}

/** Looks again every two seconds while the count grows, else rarely, and never in a tab nobody sees. */
async function watchCollections() {
  let pause = 10_000;
  try {
    if (!document.hidden) await refreshCollections();
    if ($("count").classList.contains("growing") || $("count").dataset.count === "0") pause = 2_000;
  } catch (error) {
    $("count").textContent = error.status === 401 ? "" : (error.title ?? "unknown");
    pause = 3_000;
  }
  setTimeout(watchCollections, pause);
}

// ---- the ways to ask ----

$("file").addEventListener("change", (event) => {
  askPicture(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});

document.addEventListener("paste", (event) => {
  const file = Array.from(event.clipboardData?.files ?? []).find((each) => each.type.startsWith("image/"));
  if (file) askPicture(file);
});

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) $("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  askPicture(event.dataTransfer?.files[0]);
});

$("collection").addEventListener("change", () => {
  showGone(null);
  history.replaceState(null, "", address());
  refreshCollections().catch(showError);
  if (question?.picture) ask({ ...question, anyway: false });
  else if (question) reset();
});
$("retry").addEventListener("click", () => question && ask(question));
$("other").addEventListener("click", () => $("file").click());
$("anyway").addEventListener("click", () => {
  $("results").focus({ preventScroll: true });
  ask({ ...question, anyway: true });
});

function reset() {
  question = null;
  underWay?.abort();
  $("preview").hidden = true;
  $("caption").hidden = true;
  show("idle", "");
}

/** Shows what the address names: an item's look-alikes, or the bare question. */
function followAddress() {
  const query = new URLSearchParams(location.search);
  const collection = query.get("collection");
  const there = Array.from($("collection").options).some((option) => option.value === collection);
  if (there) $("collection").value = collection;
  showGone(collection);
  const item = query.get("similar");
  // An item's name means nothing in another collection than its own.
  if (item !== null && (there || !collection)) ask({ item });
  else if (lastPicture) ask(lastPicture);
  else reset();
}

window.addEventListener("popstate", followAddress);
onKey(async () => {
  const asked = question;
  try {
    await refreshCollections();
    if (asked) ask(asked);
    else followAddress();
  } catch (error) {
    showError(error);
  }
});
await watchCollections();
if (new URLSearchParams(location.search).has("similar")) followAddress();
