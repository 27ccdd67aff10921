// Around the studio: light and dark, the two pages, copying, dropping and pasting a picture anywhere, and names for what
// Gradio leaves unnamed. Loaded in <head>, so that the first paint is right already.
(() => {
  "use strict";
  const root = document.documentElement;
  const THEME = "orfeas-theme";
  const PICTURE_TYPES = ["image/jpeg", "image/png", "image/webp"];
  const actions = {}; // what a button with data-do="name" does
  const account = window.gradio_config?.username; // where there are accounts

  // Under which name this browser keeps something: what one account keeps, the next one on this browser does not see.
  const keyOf = (name) => (account ? `${name}:${account}` : name);

  // --- light and dark ----------------------------------------------------------------------------------------------

  const system = matchMedia("(prefers-color-scheme: dark)");
  const asked = new URLSearchParams(location.search).get("__theme");

  function chosenTheme() {
    try { return localStorage.getItem(THEME); } catch { return null; }
  }

  function isDark() {
    const theme = chosenTheme() || asked;
    return theme === "dark" || (theme !== "light" && system.matches);
  }

  function applyTheme() {
    const dark = isDark();
    root.style.colorScheme = dark ? "dark" : "light";
    if (document.body && document.body.classList.contains("dark") !== dark) {
      document.body.classList.toggle("dark", dark);
      document.dispatchEvent(new Event("orfeas-theme"));
    }
    const button = document.getElementById("theme-switch");
    if (button) button.setAttribute("aria-pressed", dark);
  }

  actions.theme = () => {
    const theme = isDark() ? "light" : "dark";
    try { localStorage.setItem(THEME, theme); } catch { /* storage may be blocked: then it holds for this page only */ }
    applyTheme();
  };

  // --- pages: parts of this one, so that changing them touches neither the job nor the viewer ------------------------

  function showPage() {
    const anchor = location.hash.slice(1);
    const page = anchor.startsWith("docs") ? "docs" : "studio";
    const changed = root.dataset.page !== page;
    root.dataset.page = page;
    for (const link of document.querySelectorAll("#nav .links a")) {
      const current = link.dataset.page === (anchor.startsWith("docs-api") ? "api" : page);
      if (current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (page === "docs") fillDocs();
    const target = document.getElementById(anchor);
    if (page === "studio") {
      if (changed || anchor === "studio") scrollTo(0, 0);
    } else if (target && anchor !== "docs") target.scrollIntoView();
    else if (changed) scrollTo(0, 0);
    if (changed && page === "docs") document.getElementById("docs-title").focus({ preventScroll: true });
  }

  function fillDocs() {
    const page = document.getElementById("docs-page");
    if (page.firstChild) return;
    page.append(document.getElementById("docs-text").content.cloneNode(true));
    const address = location.origin + location.pathname.replace(/\/$/, "");
    for (const place of page.querySelectorAll(".address")) place.textContent = address;
  }

  // --- copying -----------------------------------------------------------------------------------------------------

  actions.copy = async (button) => {
    const source = button.parentElement.querySelector("textarea, code");
    const text = source.value ?? source.textContent;
    const said = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch { // no permission, or a page that is neither https nor localhost: select it, so that a key copies it
      getSelection().selectAllChildren(source);
      if (source.select) source.select();
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = said; }, 1800);
  };

  // --- a picture, dropped or pasted anywhere, takes the place of the one there is -------------------------------------

  function whenThere(find, seconds = 3) {
    return new Promise((resolve) => {
      const until = performance.now() + seconds * 1000;
      const look = () => {
        const found = find();
        if (found || performance.now() > until) resolve(found);
        else requestAnimationFrame(look);
      };
      look();
    });
  }

  function element(name, { data = {}, ...properties } = {}, ...children) { // children: elements, or null for none
    const made = Object.assign(document.createElement(name), properties);
    Object.assign(made.dataset, data);
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  const hasPicture = () => Boolean(document.querySelector("#picture .image-frame img"));
  const pictureInput = () => !hasPicture() && document.querySelector('#picture input[type="file"]');

  async function emptyPicture() {
    const remove = document.querySelector('#picture button[aria-label="Remove Image"]');
    if (remove) remove.click();
    return whenThere(pictureInput);
  }

  async function putPicture(file) {
    const input = await emptyPicture();
    if (!input) return;
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  actions.replace = async () => {
    const input = await emptyPicture();
    if (input) input.click();
  };

  const pictureOf = (transfer) => Array.from(transfer?.files ?? []).find((file) => PICTURE_TYPES.includes(file.type));

  function refuses(files) { // a file that the server would not take is named on the stage instead of being sent
    const [file] = files;
    if (!file || files.length > 1) return false; // several: history.js
    const most = Number(document.getElementById("several-input")?.dataset.bytes ?? Infinity); // not drawn yet: the server looks
    if (!PICTURE_TYPES.includes(file.type)) window.orfeas.tell("Choose another file", `${file.name} is no picture that can be used: take a JPEG, PNG or WebP.`);
    else if (file.size > most) window.orfeas.tell("Choose a smaller file", `${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MiB, and at most ${most >> 20} can be used: reduce it or save it as JPEG.`);
    else return false;
    return true;
  }

  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea")) return;
    const file = pictureOf(event.clipboardData);
    if (file && !refuses([file])) putPicture(file);
  });
  document.addEventListener("change", (event) => { // before Gradio hears of it
    if (!event.target.matches?.('#picture input[type="file"]') || !refuses(event.target.files)) return;
    event.stopImmediatePropagation();
    event.target.value = "";
  }, true);
  document.addEventListener("drop", (event) => {
    if (!refuses(event.dataTransfer?.files ?? [])) return;
    event.preventDefault(); // the browser would open it
    event.stopImmediatePropagation();
  }, true);
  for (const kind of ["error", "load"]) { // a file that is no picture: not the browser's sign for it
    document.addEventListener(kind, (event) => {
      if (event.target.matches?.("#picture img, #cutout-view img")) event.target.classList.toggle("broken", kind === "error");
    }, true);
  }
  document.addEventListener("dragover", (event) => {
    if (Array.from(event.dataTransfer?.types ?? []).includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    const file = pictureOf(event.dataTransfer);
    if (event.defaultPrevented || !file) return; // Gradio's own drop zone took it
    event.preventDefault();
    putPicture(file);
  });

  // --- what Gradio's own parts leave to be desired for keyboard and screen reader --------------------------------------

  function nameParts() {
    for (const button of document.querySelectorAll("#examples .gallery-item:not([aria-label])")) {
      const picture = button.querySelector("img");
      if (!picture) continue;
      const file = decodeURIComponent(picture.src.split("/").pop());
      button.setAttribute("aria-label", `Example: ${file.replace(/\.\w+$/, "")}`);
    }
    for (const drop of document.querySelectorAll("#picture button.upload-container[aria-label]")) {
      drop.removeAttribute("aria-label"); // its text says more
    }
    const more = document.querySelector("#advanced .label-wrap");
    const isOpen = String(more?.nextElementSibling?.style.display !== "none");
    if (more && more.getAttribute("aria-expanded") !== isOpen) more.setAttribute("aria-expanded", isOpen);
    nameOptions(more);
    for (const empty of document.querySelectorAll(".empty[aria-label]:not([role])")) empty.setAttribute("role", "img");
    for (const canvas of document.querySelectorAll("#viewer canvas:not([role])")) {
      canvas.tabIndex = 0;
      canvas.setAttribute("aria-label", "The model: drag or arrow keys to turn, scroll to come closer");
      canvas.setAttribute("role", "img");
    }
  }

  function nameOptions(more) { // what is set among the options that are folded away
    if (!more) return;
    const said = [];
    for (const [id, title] of [["texture", "colours"], ["orientation", "orientation"], ["base", "base"]]) {
      const labels = Array.from(document.querySelectorAll(`#${id} .wrap > label`));
      const chosen = labels.findIndex((label) => label.classList.contains("selected"));
      if (chosen > 0) said.push(`${title}: ${labels[chosen].textContent.trim().toLowerCase()}`); // the first is the default
    }
    const valueOf = (id) => document.querySelector(`#${id} :is(input, textarea)`)?.value.trim();
    if (valueOf("seed")) said.push(`seed ${valueOf("seed")}`);
    if (valueOf("max-faces")) said.push(`up to ${valueOf("max-faces")} faces`);
    const text = said.join(" · ").replace(/^./, (first) => first.toUpperCase());
    if ((more.dataset.set ?? "") !== text) more.dataset.set = text;
  }

  function showMoreOptions() { // they were opened: below the fold nobody would see them
    const options = document.getElementById("advanced");
    if (options.querySelector(".label-wrap").getAttribute("aria-expanded") !== "true") return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const seen = [document.getElementById("nav").offsetHeight + 12, innerHeight - document.getElementById("act").offsetHeight - 12];
    const above = options.getBoundingClientRect().top - seen[0];
    const below = document.getElementById("best-of").getBoundingClientRect().bottom - seen[1];
    scrollBy({ behavior: calm ? "auto" : "smooth", top: Math.min(above, Math.max(below, 0)) });
  }

  // --- start -------------------------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-do]");
    if (button) actions[button.dataset.do]?.(button);
    if (event.target.closest?.("#advanced .label-wrap")) setTimeout(showMoreOptions, 60);
  });
  document.addEventListener("input", () => nameOptions(document.querySelector("#advanced .label-wrap")));
  system.addEventListener("change", applyTheme);
  window.addEventListener("hashchange", showPage);
  root.dataset.page = location.hash.startsWith("#docs") ? "docs" : "studio";
  applyTheme();
  new MutationObserver(() => {
    applyTheme();
    nameParts();
  }).observe(root, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
  whenThere(() => document.querySelector("#nav .links"), Infinity).then(showPage);
  whenThere(() => document.querySelector("#generate") && document.querySelector("#header header"), Infinity).then(() => {
    root.dataset.there = "yes";
  });
  window.orfeas = { actions, whenThere, element, keyOf };
})();
