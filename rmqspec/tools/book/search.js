"use strict";
(() => {
  const entries = JSON.parse(document.getElementById("index").textContent)
    .map(([id, name, more]) => ({ id, name, low: name.toLowerCase(), all: `${name} ${more}`.toLowerCase() }));
  const box = document.getElementById("search"), field = document.getElementById("q");
  const found = document.getElementById("found"), hits = document.getElementById("hits");
  const most = 40;

  // All words must be there; those whose own name has them come first.
  function look(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return null;
    const rank = (entry) => words.filter((word) => !entry.low.includes(word)).length;
    return entries.filter((entry) => words.every((word) => entry.all.includes(word)))
      .map((entry) => [rank(entry), entry]).sort((one, other) => one[0] - other[0]).map(([, entry]) => entry);
  }

  function show() {
    const list = look(field.value);
    document.body.classList.toggle("searching", list !== null);
    found.textContent = list === null ? "" : `${list.length || "nothing"} found`
      + (list.length > most ? `, the first ${most} are here` : "");
    hits.replaceChildren(...(list || []).slice(0, most).map(({ id, name }) => {
      const item = document.createElement("li"), link = document.createElement("a");
      link.href = `#${id}`;
      link.textContent = name;
      link.addEventListener("click", () => { if (matchMedia("(max-width: 65.99rem)").matches) { field.value = ""; show(); } });
      item.append(link);
      return item;
    }));
  }

  // A link into something folded opens it, and the proof of the spec that it names.
  function land() {
    let name = location.hash.slice(1);
    try { name = decodeURIComponent(name); } catch { /* then it is no name of ours */ }
    const target = document.getElementById(name);
    if (!target) return;
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    if (target.matches("article, .cases > li")) {
      const proof = target.querySelector(":scope > .proof");
      if (proof) proof.open = true;
    }
    target.scrollIntoView();
  }

  // The chapter that is being read is marked in the index at the side.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((seen) => {
    for (const entry of seen) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      const link = links.get(entry.target.id);
      if (link) link.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -85% 0px" });
  document.querySelectorAll("section.chapter").forEach((section) => watcher.observe(section));

  function copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    return Promise.reject(new Error("no clipboard"));
  }
  for (const line of document.querySelectorAll(".run")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", () => copy(line.querySelector("code").textContent)
      .then(() => { button.textContent = "Copied"; }, () => { getSelection().selectAllChildren(line.querySelector("code")); }));
    line.append(button);
  }

  box.hidden = false;
  field.addEventListener("input", show);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { field.value = ""; show(); }
    if (event.key === "Enter" && hits.firstChild) hits.firstChild.firstChild.click();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.focus();
  });
  addEventListener("hashchange", land);
  land();
})();
