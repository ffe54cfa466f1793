// Results: the raters' files in, win rates out. This is where methods are named.

const HEADINGS = ["first", "second", "first won", "second won", "cannot tell", "raters", "win rate of first",
  "95 % (answers)", "95 % (raters)", "p"];

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The two methods at the ends of a bar of their wins, with 'cannot tell' between. */
function versus(row) {
  const total = row.won + row.lost + row.ties;
  const share = (count, name) => {
    const part = make("div", { className: name, title: `${count} of ${total}` }, count ? String(count) : "");
    part.style.width = `${(100 * count) / total}%`;
    return part;
  };
  return make("div", { className: "versus" },
    make("div", { className: "names" }, make("span", {}, row.first), make("span", {}, row.second)),
    make("div", { className: "stack" }, share(row.won, "first"), share(row.ties, "tie"), share(row.lost, "second")));
}

function cellsOf(row) {
  return [row.first, row.second, row.won, row.lost, row.ties, row.raters, percent(row.rate),
    intervalText(row.answerInterval), intervalText(row.raterInterval), pText(row.p)].map(String);
}

function table(rows) {
  const head = make("tr", {}, ...HEADINGS.map((text) => make("th", {}, text)));
  const body = rows.map((row) => make("tr", {}, ...cellsOf(row).map((text) => make("td", {}, text))));
  return make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

function showResults(answers) {
  const rows = compare(answers);
  const sections = STUDY.questions.flatMap(({ name, text }) => {
    const own = rows.filter(({ question }) => question === name);
    if (!own.length) return [];
    return [make("h2", {}, text), ...own.map(versus), table(own)];
  });
  byId("tables").replaceChildren(...sections);
  const decided = answers.filter(({ winner }) => winner);
  const left = decided.filter(({ choice }) => choice === "left").length;
  const foreign = answers.filter(({ study }) => study !== STUDY.study).length;
  byId("summary").textContent = `${answers.length} answers of ${new Set(answers.map(({ rater }) => rater)).size} raters; `
    + `left was chosen in ${left} of ${decided.length} that decide.`
    + (foreign ? ` ${foreign} answers are of another page than this one.` : "");
  byId("reading").hidden = false;
}

async function readFiles(files) {
  byId("results-problem").textContent = "";
  try {
    const answers = [];
    for (const file of files) answers.push(...readAnswers(file.name, await file.text()));
    if (!answers.length) throw new Error("There is no answer in what was given.");
    checkOnce(answers);
    showResults(answers);
  } catch (error) {
    byId("tables").replaceChildren();
    byId("summary").textContent = "";
    byId("reading").hidden = true;
    byId("results-problem").textContent = error.message;
  }
}

function followAddress() {
  if (location.hash === "#results") show("results");
  else if (session.items.length) showEnd();
  else show("start");
}

function startResults() {
  const drop = byId("drop");
  byId("files").addEventListener("change", (event) => readFiles([...event.target.files]));
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (!byId("results").hidden) readFiles([...event.dataTransfer.files]);
  });
  window.addEventListener("hashchange", followAddress);
  followAddress();
}

startResults();
