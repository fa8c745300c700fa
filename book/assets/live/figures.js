// The live figures of the page "Try it": each takes the place of its static view once its model is there.
"use strict";

const MAX_HISTORY = 12, SHOWN = 12;

/** An element with attributes, listeners ("onclick") and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const button = (text, onclick, attributes = {}) => make("button", { type: "button", class: "live-button", onclick, ...attributes }, text);
const field = (label, input) => make("label", { class: "live-field" }, label, input);
const status = () => make("p", { role: "status", class: "live-status" });

/** The live figure takes the place of its static view. */
function replaceStaticView(name, ...parts) {
  document.getElementById(`live-${name}-static`).hidden = true;
  const figure = document.getElementById(`live-${name}`);
  figure.replaceChildren(...parts);
  figure.hidden = false;
}

/** A picture out of the sheet that has them all. Decoration to a screen reader: the title stands beside it. */
function picture(items, item) {
  if (!items.hasImage[item - 1]) return make("span", { class: "live-picture" }, "no image");
  const row = Math.floor((item - 1) / items.columns), column = (item - 1) % items.columns;
  const rows = Math.ceil(items.titles.length / items.columns);
  const at = `${(100 * column) / (items.columns - 1)}% ${(100 * row) / (rows - 1)}%`;
  const style = `background-position: ${at}; background-size: ${100 * items.columns}%`;
  return make("span", { class: "live-picture live-sheet", style, "aria-hidden": "true" });
}

/** A card with an item's picture, title and some lines. */
function card(items, item, lines = [], ...below) {
  const small = lines.map((line) => make("small", {}, line));
  return make("li", { class: "live-card", "data-item": item }, picture(items, item), make("b", {}, items.titles[item - 1]), ...small, ...below);
}

/** Places of the largest numbers, the largest first. */
function largest(numbers, count) {
  return [...numbers.keys()].sort((a, b) => numbers[b] - numbers[a] || a - b).slice(0, count);
}

// Figure 1: a history, and the ten most probable next items ------------------------------------------------------------

function recommendFigure(items) {
  let history = (items.chosen = items.history), replaced = -1, page = 0, list = [];
  const shelf = make("ul", { class: "live-cards live-scroll", "aria-label": "Pictures to choose from" });
  const chosen = make("ol", { class: "live-cards live-scroll", "aria-label": "History, oldest first" });
  const listed = make("ol", { class: "live-cards", "aria-label": "The ten most probable next items" });
  const [report, gone] = [status(), make("p", { class: "live-gone" })];
  const heading = make("h3", { class: "live-title", tabindex: -1 });
  const category = make("select", { onchange: () => showShelf((page = 0)) });
  category.append(...["all", ...new Set(items.categories)].map((name) => make("option", {}, name)));

  function showShelf() {
    const offered = items.byPopularity.filter((item) => category.value === "all" || items.categories[item - 1] === category.value);
    const shown = Array.from({ length: SHOWN }, (_, k) => offered[(page * SHOWN + k) % offered.length]);
    shelf.replaceChildren(...shown.map((item) =>
      make("li", {}, make("button", { type: "button", class: "live-card live-choice", "data-item": item, onclick: () => choose(item) },
        picture(items, item), make("b", {}, items.titles[item - 1])))));
  }

  function choose(item) {
    const title = items.titles[item - 1];
    if (history.includes(item)) report.textContent = `${title} is in the history already: nobody in this shop buys an item twice.`;
    else if (replaced >= 0) change(`Replaced ${items.titles[history[replaced] - 1]} by ${title}.`, history.with(replaced, item));
    else if (history.length === MAX_HISTORY) report.textContent = `The history is full: remove or replace one of its ${MAX_HISTORY} items.`;
    else change(`Added ${title}.`, [...history, item]);
  }

  function change(what, changed) {
    [history, replaced] = [changed, -1];
    items.chosen = history; // for the figure of the preference
    show(what);
  }

  function show(what) {
    const start = performance.now(), before = list;
    const probabilities = nextItemProbabilities(items.decoder, history);
    const allowed = probabilities.map((p, at) => (history.includes(at + 1) ? -1 : p));
    list = largest(allowed, items.listed).map((at) => ({ item: at + 1, p: probabilities[at] }));
    const places = new Map(before.map(({ item }, at) => [item, at + 1]));
    const news = before.length ? list.filter(({ item }) => !places.has(item)).length : 0;
    listed.replaceChildren(...list.map(({ item, p }, at) => {
      const moved = !before.length || places.get(item) === at + 1 ? "" : places.has(item) ? `before: ${places.get(item)}` : "new";
      return card(items, item, [`P = ${p.toFixed(3)}`, ...(moved ? [moved] : [])]);
    }));
    const lost = before.filter(({ item }) => !list.some((one) => one.item === item)).map(({ item }) => items.titles[item - 1]);
    gone.textContent = lost.length ? `Left the list: ${lost.join(", ")}.` : "";
    showHistory();
    const took = `${(performance.now() - start).toFixed(0)} ms`;
    const effect = before.length ? `${news} of ${list.length} recommendations are new. ` : "";
    report.textContent = `${what} ${effect}Most probable: ${items.titles[list[0].item - 1]}, P = ${list[0].p.toFixed(3)}. Computed in ${took}.`;
  }

  function showHistory() {
    heading.textContent = `History, oldest first: ${history.length} of at most ${MAX_HISTORY} items`;
    chosen.replaceChildren(...history.map((item, at) => {
      const title = items.titles[item - 1];
      const swap = () => {
        replaced = replaced === at ? -1 : at;
        showHistory();
        chosen.querySelectorAll("[aria-pressed]")[at].focus();
        report.textContent = replaced < 0 ? "Nothing is replaced." : `Choose the picture that replaces ${title}.`;
      };
      const remove = () => {
        change(`Removed ${title}.`, history.toSpliced(at, 1));
        heading.focus();
      };
      return card(items, item, [],
        button("Replace", swap, { "aria-label": `Replace ${title}`, "aria-pressed": String(replaced === at) }),
        button("Remove", remove, { "aria-label": `Remove ${title}` }));
    }));
  }

  const more = button("Other pictures", () => showShelf(page++));
  const clear = button("Empty the history", () => change("Emptied the history.", []));
  replaceStaticView("recommend",
    make("h3", { class: "live-title" }, "Click pictures to add them to the history"),
    make("div", { class: "live-controls" }, field("Category ", category), more), shelf,
    heading, chosen, make("div", { class: "live-controls" }, clear),
    make("h3", { class: "live-title" }, "The ten most probable next items"), report, listed, gone);
  showShelf();
  show("The history that the page begins with.");
}

// Figure 2: a sentence, and the nearest pictures -----------------------------------------------------------------------

function searchFigure(items, clip) {
  const input = make("input", { type: "text", maxlength: 300, value: clip.sentences[0], autocomplete: "off" });
  const report = status(), found = make("ol", { class: "live-cards", "aria-label": "Nearest pictures" });

  function search() {
    if (!input.value.trim()) return void (report.textContent = "Type a sentence first.");
    const start = performance.now(), { tokens, vector } = encodeText(clip.tower, input.value);
    const cosines = items.titles.map((_, at) => (items.hasImage[at] ? dot(vector, clip.images, at) : -1));
    found.replaceChildren(...largest(cosines, clip.found).map((at) => card(items, at + 1, [`cosine ${cosines[at].toFixed(3)}`])));
    const took = `${(performance.now() - start).toFixed(0)} ms`;
    report.textContent = `${tokens.length} tokens: ${tokens.join(" · ")}. Computed in ${took}.`;
  }

  const form = make("form", { class: "live-controls", onsubmit: (event) => (event.preventDefault(), search()) },
    field("Sentence ", input), make("button", { type: "submit", class: "live-button" }, "Find pictures"));
  const examples = clip.sentences.map((text) => button(text, () => ((input.value = text), search())));
  replaceStaticView("search", form,
    make("div", { class: "live-controls", role: "group", "aria-label": "Examples" }, ...examples), report, found);
  search();
}

/** A text -> its tokens and its vector of length 1. */
function encodeText(tower, text) {
  const tokens = tokenize(text, tower.tokenizer);
  return { tokens, vector: textVector(tower, tokens.map((token) => tower.tokenizer.vocab[token])) };
}

/** Inner product of a vector with a row of a matrix. */
function dot(vector, matrix, row) {
  return vector.reduce((sum, value, k) => sum + value * matrix[row * vector.length + k], 0);
}

// Figure 3: the matrix of images and descriptions ----------------------------------------------------------------------

function matrixFigure({ tower, matrix }) {
  const encoded = matrix.overlaps.map(() => null), size = matrix.titles.length;
  const overlap = make("input", { type: "range", min: 0, max: matrix.overlaps.length - 1, step: 1, value: 2, oninput: show });
  const temperature = make("input", { type: "range", min: -2.5, max: 0.5, step: "any", value: Math.log10(matrix.temperature), oninput: show });
  const report = status(), table = make("table", { class: "live-matrix" });
  const texts = make("ol", { class: "live-texts" });

  function show() {
    const at = Number(overlap.value), tau = 10 ** Number(temperature.value);
    encoded[at] ??= matrix.descriptions[at].map((text) => encodeText(tower, text).vector); // once for each overlap
    const rows = matrix.titles.map((_, image) => softmax(Float64Array.from(encoded[at], (text) => dot(text, matrix.images, image) / tau)));
    overlap.setAttribute("aria-valuetext", matrix.overlaps[at].toFixed(2));
    temperature.setAttribute("aria-valuetext", tau.toFixed(3));
    const matched = rows.map((row, image) => row[image]);
    const loss = -matched.reduce((sum, p) => sum + Math.log(p), 0) / size;
    const hits = rows.filter((row, image) => largest(row, 1)[0] === image).length;
    report.textContent = `Overlap ${matrix.overlaps[at].toFixed(2)}, temperature ${tau.toFixed(3)}: for ${hits} of ${size} images their own description is the most probable; loss ${loss.toFixed(3)}.`;
    const caption = make("caption", {}, "p(description | image)");
    const head = make("tr", {}, make("td"), ...rows.map((_, text) => make("th", { scope: "col", "aria-label": `Description ${text + 1}` }, String(text + 1))));
    table.replaceChildren(caption, head, ...rows.map((row, image) => make("tr", {},
      make("th", { scope: "row" }, make("img", { src: matrix.pictures[image], alt: `Image ${image + 1}: ${matrix.titles[image]}` })),
      ...Array.from(row, (p, text) => make("td", { class: image === text ? "live-matched" : "", style: `--p: ${(100 * p).toFixed(1)}%` }, p.toFixed(2))))));
    texts.replaceChildren(...matrix.descriptions[at].map((text) => make("li", {}, text)));
  }

  replaceStaticView("matrix",
    make("div", { class: "live-controls" }, field("Overlap ", overlap), field("Temperature ", temperature)), report, table,
    make("details", {}, make("summary", {}, "The descriptions at this overlap"), texts));
  show();
}

// Figure 4: a history, and its preference, block by block ---------------------------------------------------------------

/** Phrases at even places, and what stands between them. */
const phrases = (preference) => preference.split(/(They (?:like|buy) |, |\. ?)/);

/** A preference in which the phrases that another one lacks are marked, by <ins> or <del>; and these phrases. */
function marked(preference, other, mark) {
  const known = new Set(phrases(other).filter((_, at) => at % 2 === 0));
  const parts = phrases(preference).map((phrase, at) => (at % 2 || known.has(phrase) ? phrase : make(mark, {}, phrase)));
  return { parts, changed: parts.filter((part) => part.textContent).map((part) => part.textContent) };
}

function preferenceFigure(items, { writer, texts, users, block }) {
  let who = "", history = [], change = Infinity, written = [], at = 0;
  const heading = make("h3", { class: "live-title" }), report = status();
  const bought = make("ol", { class: "live-cards", "aria-label": "Items of this block" });
  const [before, after] = ["before", "after"].map((name) => make("p", { class: "live-card live-preference", "aria-label": `Preference ${name} this block`, role: "group" }));

  function open(name, purchases, changed = Infinity) {
    [who, history, change, written] = [name, purchases, changed, []];
    show(0);
  }

  function show(number) {
    const count = Math.ceil(history.length / block);
    if (number < 0 || number >= count) return void (report.textContent = `This is the ${number < 0 ? "first" : "last"} block.`);
    at = number;
    const own = history.slice(at * block, (at + 1) * block), previous = written[at - 1]?.text ?? "";
    const start = performance.now(), isNew = !written[at];
    const message = preferenceMessage(writer, own.map((item) => texts[item - 1]), previous);
    const { text, ids } = (written[at] ??= replyTo(writer, message));
    const took = isNew ? `${ids.length} tokens in ${(performance.now() - start).toFixed(0)} ms.` : "";
    heading.textContent = `${who}, block ${at + 1} of ${count}: items ${at * block + 1} to ${at * block + own.length}`;
    bought.replaceChildren(...own.map((item, k) => card(items, item, [texts[item - 1], ...(at * block + k >= change ? ["after the change of taste"] : [])])));
    const [gone, added] = [marked(previous, text, "del"), marked(text, previous || text, "ins")];
    before.replaceChildren(...(previous ? gone.parts : ["None yet."]));
    after.replaceChildren(...added.parts);
    const list = (phrases) => phrases.join(", ") || "nothing";
    report.textContent = previous ? `New: ${list(added.changed)}. Gone: ${list(gone.changed)}. ${took}` : `The first preference. ${took}`;
  }

  const choose = () => open(...users[select.value]);
  const select = make("select", { onchange: choose });
  select.append(...users.map(([name], number) => make("option", { value: number }, name)));
  const mine = () => (items.chosen.length ? open("Your history", items.chosen) : (report.textContent = "Your history is empty: add pictures to it first."));
  replaceStaticView("preferences",
    make("div", { class: "live-controls" }, field("User ", select), button("Take my history", mine)), heading, bought,
    make("div", { class: "live-controls" }, button("Previous block", () => show(at - 1)), button("Next block", () => show(at + 1))), report,
    make("h3", { class: "live-title" }, "Preference before this block"), before,
    make("h3", { class: "live-title" }, "Preference after this block"), after);
  choose();
}

// Figure 5: a table, and its audit -------------------------------------------------------------------------------------

function auditFigure({ tables }) {
  const input = make("textarea", { rows: 5, spellcheck: "false" });
  const report = status(), table = make("table", { class: "live-matrix live-audit" });

  function show() {
    const start = performance.now();
    try {
      const rows = audit(input.value), wrong = rows.filter((row) => row.verdict === "contradiction").length;
      const heads = ["System", "Verdict", "Distance", "Smallest contradiction"];
      const together = (row) => Object.entries(row.contradiction).map(([name, value]) => `${name} = ${+value.toFixed(6)}`).join(", ");
      const cells = (row) => [row.verdict, row.distance.toFixed(1), together(row)].map((text) => make("td", {}, text));
      table.replaceChildren(make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text))),
        ...rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row.system), ...cells(row))));
      report.textContent = `${rows.length} rows, ${wrong} with a contradiction. Computed in ${(performance.now() - start).toFixed(0)} ms.`;
    } catch (error) {
      table.replaceChildren();
      report.textContent = error.message;
    }
  }

  const examples = Object.entries(tables).map(([name, text]) => button(name, () => ((input.value = text), show())));
  input.value = Object.values(tables)[0];
  replaceStaticView("audit", field("Table in CSV ", input),
    make("div", { class: "live-controls" }, button("Audit", show), ...examples), report, table);
  show();
}

// Start ----------------------------------------------------------------------------------------------------------------

/** Build a figure when it comes near the window, so that the page itself opens at once. */
function whenNear(name, build) {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    build();
  }, { rootMargin: "300px" });
  observer.observe(document.getElementById(`live-${name}-static`));
}

/** Add a file of this folder to the page: the language model is larger than all else, and not everybody scrolls to it. */
function addScript(name) {
  const src = new URL(name, SCRIPT).href;
  return new Promise((done) => document.head.append(make("script", { src, onload: done })));
}

const SCRIPT = document.currentScript.src;
const items = unpack(LIVE_ITEMS);
recommendFigure(items);
let clip = null;
const loadClip = () => (clip ??= unpack(LIVE_CLIP));
document.addEventListener("DOMContentLoaded", () => { // the data of the first two come last
  whenNear("search", () => searchFigure(items, loadClip()));
  whenNear("matrix", () => matrixFigure(loadClip()));
  whenNear("preferences", async () => {
    await addScript("live-preferences.js");
    preferenceFigure(items, await inflate(LIVE_PREFERENCES));
  });
  whenNear("audit", () => auditFigure(items));
});
