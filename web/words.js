// Our own words in the editor's language. The English text is the key; what has no translation stays English.
const catalog = () =>
  document.getElementById("vue-app")?.__vue_app__?.config.globalProperties.$tm?.("personalize")?.words ?? {};

// The text in the editor's language, with {name} replaced by the value of that name.
export function say(english, values = {}) {
  const text = catalog()[english] ?? english;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
