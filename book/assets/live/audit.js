// Chapter 8's audit in plain JavaScript, for users with one relevant item: can any lists produce the rows of a table?
"use strict";

// A metric of a list whose relevant item has a rank, by what it is worth at that rank; 0 below the cut-off.
const METRICS = {
  HR: () => 1,
  P: (rank, cutoff) => 1 / cutoff,
  R: () => 1,
  MRR: (rank) => 1 / rank,
  NDCG: (rank) => 1 / Math.log2(rank + 1),
  MAP: (rank) => 1 / rank,
};
const OTHER_NAMES = { HIT: "HR", HITRATE: "HR", PRECISION: "P", PREC: "P", RECALL: "R" };
const WITHOUT_CUTOFF = ["MRR", "MAP", "NDCG"];
const TOLERANCE = 1e-10; // of the simplex method
const [POSSIBLE, WEAK] = [0.5 + 1e-6, 1 + 1e-6]; // units of the last digit

/** [smallest, largest] value of a metric such as "HR@5" or "MRR" for ranks 1 to k, and for a rank beyond k. */
function valueRanges(name, k) {
  const [metric, cutoff] = name.split("@"), worth = METRICS[metric];
  const ranks = Array.from({ length: k }, (_, at) => at + 1);
  if (!cutoff) return [...ranks.map((rank) => [worth(rank), worth(rank)]), [0, worth(k + 1)]];
  return [...ranks.map((rank) => (rank <= cutoff ? worth(rank, cutoff) : 0)), 0].map((value) => [value, value]);
}

/**
 * Units of the last digit by which all lists miss a row, at least: the smallest t with A w <= b + t, where w are shares
 * of users with each rank. That is the value of a game in which one side chooses w and the other a constraint.
 */
function distance(row, unit, k) {
  const lines = [];
  for (const name of Object.keys(row)) {
    const ranges = valueRanges(name, k);
    lines.push(ranges.map(([low]) => (low - row[name]) / unit), ranges.map(([, high]) => (row[name] - high) / unit));
  }
  return Math.max(0, valueOfGame(lines)); // below 0 where a metric of the whole ranking leaves room
}

/** The longest list that a row describes: its largest cut-off. */
const longest = (names) => Math.max(1, ...names.map((name) => Number(name.split("@")[1] ?? 1)));

/** Value of a matrix game whose columns are chosen by the side that minimises: by the simplex method, Bland's rule. */
function valueOfGame(lines) {
  const least = Math.min(...lines.flat()), scale = Math.max(...lines.flat()) - least || 1;
  const numRows = lines.length, numColumns = lines[0].length, last = numRows + numColumns;
  // With G from 1 to 2, maximise sum(y) where G y <= 1 and y >= 0; then 1 / sum(y) is the value of G.
  const tableau = lines.map((line, row) => [
    ...line.map((payoff) => 1 + (payoff - least) / scale),
    ...lines.map((_, slack) => Number(slack === row)),
    1,
  ]);
  const goal = [...new Array(numColumns).fill(-1), ...new Array(numRows + 1).fill(0)];
  const basis = lines.map((_, row) => numColumns + row);
  for (;;) {
    const enters = goal.findIndex((value, at) => at < last && value < -TOLERANCE);
    if (enters < 0) return (1 / goal[last] - 1) * scale + least;
    let leaves = -1;
    tableau.forEach((line, at) => {
      if (line[enters] <= TOLERANCE) return;
      const difference = leaves < 0 ? -1 : line[last] / line[enters] - tableau[leaves][last] / tableau[leaves][enters];
      if (difference < 0 || (difference === 0 && basis[at] < basis[leaves])) leaves = at;
    });
    const pivot = tableau[leaves].map((value) => value / tableau[leaves][enters]);
    for (const line of [...tableau, goal]) {
      const factor = line[enters];
      pivot.forEach((value, at) => (line[at] -= factor * value));
    }
    tableau[leaves] = pivot;
    basis[leaves] = enters;
  }
}

/** The fewest numbers of a row that no lists can have; none if the row is possible. */
function smallestContradiction(row, unit) {
  const names = Object.keys(row), k = longest(names), all = 2 ** names.length - 1;
  if (distance(row, unit, k) <= POSSIBLE) return {};
  const parts = Array.from({ length: all }, (_, k) => names.filter((_, at) => ((all - k) >> (names.length - 1 - at)) & 1));
  parts.sort((a, b) => a.length - b.length);
  const found = parts.find((part) => distance(Object.fromEntries(part.map((name) => [name, row[name]])), unit, k) > POSSIBLE);
  return Object.fromEntries(found.map((name) => [name, row[name]]));
}

/** Verdict, distance and contradiction of each row of a table in CSV. An error says which row and column is wrong. */
function audit(text) {
  const [head, ...lines] = text.trim().split("\n").map((line) => line.split(",").map((cell) => cell.trim()));
  if (!lines.length) throw new Error("The first line names the metrics, each other one is a system.");
  const metrics = head.slice(1).map(metricOf), cells = [];
  if (!metrics.length || new Set(metrics).size < metrics.length) throw new Error("Row 1 has no metric, or one of them twice.");
  lines.forEach((line, at) => {
    if (line.length !== head.length) throw new Error(`Row ${at + 2} has ${line.length} columns, the first row has ${head.length}.`);
    cells.push(line.slice(1).map((cell, column) => shareOf(cell, `Row ${at + 2}, ${metrics[column]}`)));
  });
  if (new Set(cells.flat().map((cell) => cell.percent)).size > 1) throw new Error("Percentages and shares in one table: write all in one way.");
  const unit = Math.min(...cells.flat().map((cell) => cell.unit));
  return cells.map((shares, at) => {
    const row = Object.fromEntries(shares.map(({ share }, column) => [metrics[column], share])), missed = distance(row, unit, longest(metrics));
    const verdict = missed <= POSSIBLE ? "possible" : missed <= WEAK ? "weak" : "contradiction";
    return { system: lines[at][0], verdict, distance: missed, contradiction: smallestContradiction(row, unit) };
  });
}

/** The name of a column as METRICS has it, with its cut-off. */
function metricOf(column) {
  const [name, cutoff] = column.toUpperCase().replaceAll(" ", "").split("@"), metric = OTHER_NAMES[name] ?? name;
  if (!(metric in METRICS)) throw new Error(`Row 1 has no metric ${column}; there are ${Object.keys(METRICS).join(", ")}.`);
  if (cutoff === undefined && WITHOUT_CUTOFF.includes(metric)) return metric;
  if (!(/^[1-9]\d?$/.test(cutoff ?? ""))) throw new Error(`Row 1: ${column} needs a cut-off from 1 to 99, such as ${metric}@5.`);
  return `${metric}@${cutoff}`;
}

/** A printed number as a share of 1, and what its last digit is worth. */
function shareOf(cell, place) {
  const match = cell.match(/^(\d*)(?:\.(\d+))?\s*(%?)$/);
  if (!match || !(match[1] || match[2])) throw new Error(`${place}: ${cell || "nothing"} is no number such as 0.289 or 28.9%.`);
  const scale = match[3] ? 0.01 : 1, share = Number(`${match[1] || 0}.${match[2] || 0}`) * scale;
  if (share > 1) throw new Error(`${place}: ${cell} is more than 1; a percentage needs its sign, ${cell}%.`);
  return { share, unit: scale * 10 ** -(match[2] ?? "").length, percent: match[3] };
}
