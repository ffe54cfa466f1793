"use strict";
// The figures of core/paired_comparison.py, computed the same way; a test holds the two together.

const COLUMNS = ["study", "rater", "question", "prompt", "index", "left", "right", "choice", "winner"];
const QUESTION_NAMES = ["subject fidelity", "prompt fidelity"];
const CHOICES = ["left", "right", "cannot tell"];
const Z = 1.959963984540054; // 95 %, two-sided
const FEWEST_RATERS = 5;
const RESAMPLES = 2000;
const MULTIPLIER = 48271;
const MODULUS = 2147483647;

/** Park and Miller's generator, as numbers in [0, 1). Products stay below 2^53: doubles are exact. */
function generator(state = 1) {
  return () => {
    state = (state * MULTIPLIER) % MODULUS;
    return (state - 1) / (MODULUS - 1);
  };
}

/** A generator's state from a text. */
function hashState(text) {
  let hash = 1;
  for (const sign of text) hash = (hash * 131 + sign.codePointAt(0)) % MODULUS;
  return Math.max(1, hash);
}

/** Rows of cells with the line on which each ends, by RFC 4180; throws an Error that names the file. */
function parseCsv(name, text) {
  const rows = [];
  let row = [], cell = "", quoted = false, line = 1;
  const endRow = () => {
    row.push(cell);
    if (row.length > 1 || row[0] !== "") rows.push({ line, cells: row });
    row = [];
    cell = "";
  };
  const signs = text.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");
  for (let i = 0; i < signs.length; i++) {
    const sign = signs[i];
    if (quoted && sign === '"' && signs[i + 1] === '"') { cell += sign; i++; }
    else if (quoted && sign === '"') quoted = false;
    else if (quoted || !'",\n'.includes(sign)) cell += sign;
    else if (sign === '"') quoted = true;
    else if (sign === ",") { row.push(cell); cell = ""; }
    else endRow();
    if (sign === "\n") line++;
  }
  if (quoted) throw new Error(`${name}, line ${line - signs.endsWith("\n")}: a quotation mark is open`);
  endRow();
  return rows;
}

function writeCsv(rows) {
  const quote = (cell) => (/[",\n\r]/.test(cell) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell));
  return rows.map((row) => row.map(quote).join(",") + "\r\n").join("");
}

/** The answers of one file; throws an Error that names file and line. */
function readAnswers(name, text) {
  const [header, ...rows] = parseCsv(name, text);
  const titles = header ? header.cells.join(",") : "nothing";
  if (titles !== COLUMNS.join(",")) {
    throw new Error(`${name}: got ${titles}, expected ${COLUMNS.join(",")}. Give the file as the page wrote it.`);
  }
  return rows.map(({ line, cells }) => readAnswer(`${name}, line ${line}`, cells));
}

function readAnswer(place, cells) {
  const check = (holds, got, expected) => {
    if (!holds) throw new Error(`${place}: got ${got}, expected ${expected}. Ask the rater to download it again.`);
  };
  check(cells.length === COLUMNS.length, `${cells.length} cells`, `${COLUMNS.length} cells`);
  const answer = Object.fromEntries(COLUMNS.map((column, i) => [column, cells[i].trim()]));
  for (const column of ["study", "rater", "left", "right"]) check(answer[column], `no ${column}`, `a ${column}`);
  check(QUESTION_NAMES.includes(answer.question), `question "${answer.question}"`, QUESTION_NAMES.join(" or "));
  check(CHOICES.includes(answer.choice), `choice "${answer.choice}"`, CHOICES.join(", "));
  check(answer.left !== answer.right, `"${answer.left}" on both sides`, "two methods");
  check(/^[0-9]+$/.test(answer.index), `index "${answer.index}"`, "0 or a higher number");
  const winner = answer.choice === "cannot tell" ? "" : answer[answer.choice];
  check(answer.winner === winner, `winner "${answer.winner}" for choice "${answer.choice}"`, `"${winner}"`);
  const pair = [answer.left, answer.right].sort();
  return { ...answer, index: Number(answer.index), pair, place };
}

/** Throws an Error where an answer is there twice. */
function checkOnce(answers) {
  const seen = new Map();
  for (const answer of answers) {
    const { study, rater, question, index, pair, place } = answer;
    const identity = JSON.stringify([study, rater, question, index, pair]);
    if (seen.has(identity)) {
      throw new Error(`${place}: ${rater}'s answer of ${seen.get(identity)} again. Give each rater's last file only; `
        + "two raters need two names.");
    }
    seen.set(identity, place);
  }
}

/** Wilson's interval of a share. */
function wilson(wins, count) {
  const share = wins / count, square = Z * Z;
  const centre = (2 * wins + square) / (2 * (count + square));
  const half = (Z * Math.sqrt(4 * count * share * (1 - share) + square)) / (2 * (count + square));
  return [wins === 0 ? 0 : centre - half, wins === count ? 1 : centre + half];
}

/** Two-sided sign test: probability of a split at least as uneven, were both equally likely. */
function signTest(wins, count) {
  const logFactorials = [0];
  for (let i = 1; i <= count; i++) logFactorials.push(logFactorials[i - 1] + Math.log(i));
  let tail = 0;
  for (let k = 0; k <= Math.min(wins, count - wins); k++) {
    tail += Math.exp(logFactorials[count] - logFactorials[k] - logFactorials[count - k] - count * Math.LN2);
  }
  return Math.min(1, 2 * tail);
}

function quantile(sorted, share) {
  const place = (sorted.length - 1) * share, below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

/** Percentile interval of the win rate over raters drawn with replacement, each with all answers. */
function bootstrapInterval(wins) {
  if (wins.length < FEWEST_RATERS) return [NaN, NaN];
  const random = generator();
  const rates = Array.from({ length: RESAMPLES }, () => {
    let won = 0, lost = 0;
    for (let i = 0; i < wins.length; i++) {
      const drawn = wins[Math.floor(random() * wins.length)];
      won += drawn[0];
      lost += drawn[1];
    }
    return won / (won + lost);
  }).sort((a, b) => a - b);
  return [quantile(rates, 0.025), quantile(rates, 0.975)];
}

/** [wins, losses] of every rater who decided at least once, by the raters' names. */
function winsByRater(answers, first) {
  const counts = new Map();
  for (const { rater, winner } of answers) {
    if (!winner) continue;
    if (!counts.has(rater)) counts.set(rater, [0, 0]);
    counts.get(rater)[winner === first ? 0 : 1]++;
  }
  return [...counts.keys()].sort().map((rater) => counts.get(rater));
}

/** One row per question and pair of methods. */
function compare(answers) {
  const groups = new Map();
  for (const answer of answers) {
    const group = JSON.stringify([QUESTION_NAMES.indexOf(answer.question), ...answer.pair]);
    groups.set(group, [...(groups.get(group) ?? []), answer]);
  }
  const order = [...groups.keys()].map((group) => JSON.parse(group));
  order.sort((a, b) => a[0] - b[0] || (a[1] === b[1] ? (a[2] < b[2] ? -1 : 1) : a[1] < b[1] ? -1 : 1));
  return order.map((group) => compareGroup(group, groups.get(JSON.stringify(group))));
}

function compareGroup([question, first, second], answers) {
  const won = answers.filter(({ winner }) => winner === first).length;
  const lost = answers.filter(({ winner }) => winner === second).length;
  const decided = won + lost;
  return {
    question: QUESTION_NAMES[question], first, second, won, lost, ties: answers.length - decided,
    raters: new Set(answers.map(({ rater }) => rater)).size,
    rate: decided ? won / decided : NaN,
    answerInterval: decided ? wilson(won, decided) : [NaN, NaN],
    raterInterval: bootstrapInterval(winsByRater(answers, first)),
    p: decided ? signTest(won, decided) : NaN,
  };
}

const percent = (share) => (Number.isNaN(share) ? "–" : `${(100 * share).toFixed(1)} %`);
const intervalText = ([low, high]) => (Number.isNaN(low) ? "–" : `${(100 * low).toFixed(1)} to ${percent(high)}`);
const pText = (p) => (Number.isNaN(p) ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
