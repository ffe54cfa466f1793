// Rating: one question at a time, in an order and with sides that depend on the rater's name alone.

const STUDY = JSON.parse(document.getElementById("study").textContent);
const METHOD_OF = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(STUDY.key), (sign) => sign.codePointAt(0))));
const NAME = /^[\p{L}\p{N}][\p{L}\p{N} ._-]*$/u;
const SCREENS = ["start", "rate", "end", "results"];
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "cannot tell" };
const byId = (id) => document.getElementById(id);

const session = { rater: "", sheet: 0, items: [], answers: {}, position: 0 };

function show(screen) {
  for (const id of SCREENS) byId(id).hidden = id !== screen;
  window.scrollTo(0, 0);
}

function shuffled(values, random) {
  const mixed = [...values];
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
  }
  return mixed;
}

/** What a rater is asked, in order: each pair by all questions, its sides by a coin. */
function itemsFor(rater, sheet) {
  const random = generator(hashState(`${STUDY.study}/${rater.toLowerCase()}/${sheet}`));
  for (let i = 0; i < 20; i++) random(); // names that differ little must not begin alike
  return shuffled(STUDY.sheets[sheet], random).flatMap(([prompt, one, other]) => {
    const [left, right] = random() < 0.5 ? [one, other] : [other, one];
    return STUDY.questions.map((question) => ({ id: `${one}-${other} ${question.name}`, question, prompt, left, right }));
  });
}

/** Where progress is kept: in the browser if it allows that, else only while the page is open. */
const progress = {
  kept: {},
  key: () => `paired comparison ${STUDY.study} ${session.sheet} ${session.rater.toLowerCase()}`,
  load() {
    try { return JSON.parse(localStorage.getItem(this.key()) ?? "{}"); } catch { return this.kept[this.key()] ?? {}; }
  },
  save() {
    this.kept[this.key()] = { ...session.answers };
    try { localStorage.setItem(this.key(), JSON.stringify(session.answers)); } catch { /* private windows refuse */ }
  },
};

function begin(rater, sheet) {
  Object.assign(session, { rater, sheet, items: itemsFor(rater, sheet) });
  session.answers = progress.load();
  const open = session.items.findIndex(({ id }) => !(id in session.answers));
  session.position = open < 0 ? session.items.length : open;
  showPosition();
}

function showPosition() {
  const item = session.items[session.position];
  if (!item) return showEnd();
  byId("bar").style.width = `${(100 * session.position) / session.items.length}%`;
  byId("position").textContent = `${session.position + 1} of ${session.items.length}`;
  byId("back").disabled = session.position === 0;
  byId("question").textContent = item.question.text;
  byId("photos").hidden = item.question.shows !== "photos";
  byId("prompt").hidden = item.question.shows !== "prompt";
  byId("prompt").textContent = STUDY.prompts[item.prompt];
  byId("left").src = STUDY.pictures[item.left];
  byId("right").src = STUDY.pictures[item.right];
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.classList.toggle("chosen", session.answers[item.id] === button.dataset.choice);
  }
  show("rate");
}

function choose(choice) {
  session.answers[session.items[session.position].id] = choice;
  progress.save();
  session.position++;
  document.activeElement?.blur(); // or the key that comes next would press the same button again
  showPosition();
}

function goBack() {
  session.position = Math.max(0, session.position - 1);
  showPosition();
}

function showEnd() {
  const given = session.items.filter(({ id }) => id in session.answers).length;
  const isDone = given === session.items.length;
  byId("end-title").textContent = isDone ? `Thank you, ${session.rater}` : "Saved";
  byId("end-text").textContent = `${given} of ${session.items.length} questions are answered. `
    + (isDone ? "Download the file and send it to whoever asked you." : "Come back with the same name to go on.");
  byId("download").disabled = given === 0;
  byId("resume").textContent = isDone ? "← Back to the last question" : "← Go on";
  show("end");
}

function answerRows() {
  return session.items.filter(({ id }) => id in session.answers).map((item) => {
    const choice = session.answers[item.id];
    const [left, right] = [METHOD_OF[item.left], METHOD_OF[item.right]];
    return [STUDY.study, session.rater, item.question.name, STUDY.prompts[item.prompt], item.prompt, left, right, choice,
      { left, right }[choice] ?? ""];
  });
}

function download() {
  const address = URL.createObjectURL(new Blob([writeCsv([COLUMNS, ...answerRows()])], { type: "text/csv" }));
  const sheet = STUDY.sheets.length > 1 ? `_sheet${session.sheet + 1}` : "";
  const link = Object.assign(document.createElement("a"), {
    href: address, download: `answers_${STUDY.study}_${session.rater.replace(/[ .]+/g, "_")}${sheet}.csv`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function submitBegin(event) {
  event.preventDefault();
  const rater = byId("rater").value.trim().replace(/\s+/g, " ");
  const isName = NAME.test(rater);
  byId("begin-problem").textContent = isName ? "" : "A name has letters, digits, spaces and . _ - and begins with a "
    + "letter or a digit.";
  if (isName) begin(rater, Number(byId("sheet").value));
}

function pressKey(event) {
  if (byId("rate").hidden || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Backspace") goBack();
  else if (event.key in KEYS) choose(KEYS[event.key]);
  else return;
  event.preventDefault();
}

function describeLength() {
  const pairs = STUDY.sheets[Number(byId("sheet").value)].length;
  byId("length").textContent = `${pairs} pairs, ${pairs * STUDY.questions.length} questions`;
}

function startRating() {
  for (const title of document.querySelectorAll(".title")) title.textContent = STUDY.title;
  STUDY.sheets.forEach((_, number) => byId("sheet").add(new Option(`${number + 1} of ${STUDY.sheets.length}`, number)));
  byId("sheet-choice").hidden = STUDY.sheets.length === 1;
  STUDY.photos.forEach((photo, number) => byId("photos").append(
    Object.assign(new Image(), { src: photo, alt: `photo ${number + 1} of the subject` })));
  byId("left").addEventListener("load", ({ target }) =>
    document.documentElement.style.setProperty("--ratio", target.naturalWidth / target.naturalHeight));
  byId("sheet").addEventListener("change", describeLength);
  byId("begin").addEventListener("submit", submitBegin);
  byId("back").addEventListener("click", goBack);
  byId("stop").addEventListener("click", showEnd);
  byId("resume").addEventListener("click", () => {
    session.position = Math.min(session.position, session.items.length - 1);
    showPosition();
  });
  byId("next-sheet").addEventListener("click", () => show("start"));
  byId("download").addEventListener("click", download);
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.addEventListener("click", () => choose(button.dataset.choice));
  }
  document.addEventListener("keydown", pressKey);
  describeLength();
}

startRating();
