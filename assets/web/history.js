// The results of this browser, those of each account apart. It remembers the tokens of its jobs, newest first, and
// nothing else; everything shown comes from the server, to which a token is the key. Also: several pictures at once, and
// several seeds of one.
(() => {
  "use strict";
  const KEY = window.orfeas.keyOf("orfeas-history");
  const MOST = 100;
  const POLL_MS = 900;
  const AGE_MS = 20000; // how often "1 min ago" is looked at
  const FRESH_MS = 20000; // for so long a job that was just asked for may be unknown to the server
  const UNUSABLE = ["unsupported_type", "corrupt", "too_large", "too_many_pixels", "too_small", "bad_aspect"]; // files
  const STANCES = { standing: "standing", flattest: "lying flat", cut: "cut flat", plinth: "on a plate" };
  const OVER = ["done", "failed", "cancelled", "lost"];
  const born = new Map(); // token -> when this page made it, or heard of it from another tab
  const states = new Map(); // token -> what the server said
  const unknown = new Set(); // tokens of which it knows nothing; they are kept, and asked for when the page is loaded anew
  let tokens = [];
  let timer = 0;
  let passed = {}; // to the event that is about to be asked for: token, spec
  let restoring = {}; // the token of the job whose picture and options are to come, and why: open, again or return
  let chosen = []; // several pictures: { file, address, error }
  const opened = new Set(); // groups whose best was shown when they ended, or that were over before

  const { element } = window.orfeas;
  const $ = (id) => document.getElementById(id);
  const post = (address) => fetch(address, { method: "POST" });
  const isOver = (state) => (state.members ? state.over : OVER.includes(state.state));

  // --- what this browser remembers ---------------------------------------------------------------------------------

  function recall() {
    try {
      const found = JSON.parse(localStorage.getItem(KEY) || "[]");
      return Array.isArray(found) ? found.filter((token) => /^[0-9a-f]{32}$/.test(token)) : [];
    } catch {
      return tokens; // storage may be blocked: then the list lasts as long as the page
    }
  }

  function remember(list) {
    tokens = list.slice(0, MOST);
    try { localStorage.setItem(KEY, JSON.stringify(tokens)); } catch { /* as above */ }
  }

  function add(token) {
    born.set(token, performance.now());
    remember([token, ...recall().filter((one) => one !== token)]);
    ask();
  }

  function forget(token) {
    states.delete(token);
    remember(recall().filter((one) => one !== token));
    draw();
  }

  function newToken() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  // --- asking ------------------------------------------------------------------------------------------------------

  const isWanted = (token) => !unknown.has(token) && !(states.has(token) && isOver(states.get(token)));

  async function ask() {
    clearTimeout(timer);
    const wanted = tokens.filter(isWanted);
    if (wanted.length) {
      try {
        const answer = await fetch("jobs/look", { method: "POST", body: JSON.stringify({ tokens: wanted }), cache: "no-store" });
        if (answer.ok) take(await answer.json());
      } catch { /* the connection is lost: the next time */ }
    }
    draw();
    clearTimeout(timer);
    if (tokens.some(isWanted)) timer = setTimeout(ask, POLL_MS);
  }

  function take(answer) {
    for (const [token, state] of Object.entries(answer)) {
      const before = states.get(token);
      if (!state) { // never admitted, or removed; or the server has another data folder for a while
        if (performance.now() - (born.get(token) ?? -FRESH_MS) < FRESH_MS) continue;
        unknown.add(token);
        states.delete(token);
        continue;
      }
      states.set(token, state);
      if (!isOver(state)) continue;
      if (!state.members && (state.state === "cancelled" || (state.state === "failed" && !state.name))) forget(token);
      else if (before) say(state, token);
    }
  }

  function say(state, token) {
    $("history-said").textContent = state.members ? `${titleOf(state)}: ${countOf(state)}` : `${state.name}: ${state.error ?? "done"}`;
    const best = state.kind === "best_of" && ranked(state).find((one) => one.result);
    const isBusy = ["waiting", "queued", "running", "stopping"].includes(document.documentElement.dataset.job);
    if (best && !opened.has(token) && !isBusy) {
      passed = { token: best.token };
      $("history-open").click();
    }
    opened.add(token);
  }

  // --- drawing -----------------------------------------------------------------------------------------------------

  const act = (what, token, label, about, more = {}) =>
    element("button", { type: "button", textContent: label, ariaLabel: about ? `${label}: ${about}` : null, data: { history: what, token }, ...more });

  function draw() {
    const list = $("history-list");
    if (!list) return;
    const shown = tokens.filter((token) => states.has(token));
    $("history-empty").hidden = shown.length > 0;
    const made = shown.flatMap((token) => resultsOf(states.get(token))).length;
    $("history-count").textContent = shown.length ? `${made === 1 ? "1 model" : `${made} models`} in this browser` : "";
    place(list, shown.map((token) => [token, states.get(token)]));
    drawCompare();
  }

  function place(list, entries) { // each card stays the same element while what it says stays the same
    const there = new Map(Array.from(list.children, (item) => [item.dataset.token, item]));
    entries.forEach(([token, state], index) => {
      const { kind, state: now, error, expired, rank, files, over, note, isOnly, members } = state;
      const signature = JSON.stringify([kind, now, error, expired, rank, files, over, note, isOnly, members?.length]);
      let item = there.get(token);
      there.delete(token);
      if (!item || item.signature !== signature) {
        const focused = item?.contains(document.activeElement) ? document.activeElement.dataset.history : null;
        const made = state.members ? drawGroup(token, state) : drawCard(token, state);
        made.signature = signature;
        if (item) item.replaceWith(made);
        if (focused) (made.querySelector(`[data-history="${focused}"]`) ?? made.querySelector("button"))?.focus();
        item = made;
      }
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
      update(item, state);
    });
    there.forEach((item) => item.remove());
  }

  function update(item, state) {
    if (state.members) {
      item.querySelector(".history-state").textContent = countOf(state);
      const isOnly = state.members.length === 1;
      const members = state.kind === "best_of" ? ranked(state) : state.members;
      place(item.querySelector("ul"), members.map((one, index) => [one.token, { ...one, isOnly, rank: one.rank && index + 1 }])); // of those left
      return;
    }
    const when = item.querySelector("time");
    if (when) when.textContent = ago(state.created);
    const bar = item.querySelector("progress");
    if (!bar) return;
    if (state.fraction) bar.value = state.fraction;
    item.querySelector(".history-state").textContent = state.message || (state.state === "stopping" ? "Stopping" : "Waiting for its turn");
  }

  function drawCard(token, state) {
    const name = state.name || state.picture || "model";
    const isThere = state.state === "done" && !state.expired;
    const about = `${name}, ${detailsOf(state)}`;
    const thumb = isThere
      ? element("button", { type: "button", className: "history-thumb", ariaLabel: `Open ${about}`, data: { history: "open", token } },
        element("img", { src: `r/${state.result}/poster.webp`, alt: "", loading: "lazy", width: 96, height: 96 }))
      : element("div", { className: "history-thumb" });
    const words = element("div", { className: "history-words" },
      element("h4", { textContent: name }),
      state.rank ? element("p", { className: "history-rank", textContent: rankOf(state) }) : null,
      element("p", { className: "quiet", textContent: detailsOf(state) }),
      element("time", { className: "quiet", dateTime: new Date(1000 * (state.created || 0)).toISOString() }));
    const acts = element("div", { className: "history-acts" });
    if (isThere) {
      acts.append(act("open", token, "Open", about), act("compare", token, "Compare", about, { ariaPressed: "false" }));
      const pills = state.files.map(([title, address]) => element("a", { href: address, download: "", textContent: title }));
      acts.append(element("details", {}, element("summary", { textContent: "Download", ariaLabel: `Download ${about}` }), element("div", {}, ...pills)));
    } else if (!OVER.includes(state.state)) {
      words.append(element("progress", { max: 1, ariaLabel: `Progress of ${name}` }), element("p", { className: "history-state quiet" }));
      if (state.stage || !("rank" in state)) acts.append(act("open", token, "Show", name));
      acts.append(act("stop", token, "Stop", name));
    } else if (state.state !== "cancelled") {
      words.append(element("p", { className: "history-error", textContent: state.expired ? "It has expired: results are not kept for ever." : state.error }));
      if (!state.expired && !UNUSABLE.includes(state.code)) acts.append(act("again", token, "Start again", name));
    } else words.append(element("p", { className: "quiet", textContent: "Stopped" }));
    if (OVER.includes(state.state)) acts.append(act("delete", token, isThere ? "Delete" : "Remove", about));
    return element("li", { className: "history-card", data: { token, state: state.expired ? "expired" : state.state } }, thumb, words, acts);
  }

  function drawGroup(token, state) {
    const title = titleOf(state);
    const acts = element("div", { className: "history-acts" });
    if (!state.over) acts.append(act("stop-group", token, "Stop all", title));
    else {
      if (state.members.some((one) => one.result && !one.expired)) {
        acts.append(element("a", { href: `groups/${token}/models.zip`, download: "models.zip", className: "strong", textContent: "Download all (ZIP)" }));
      }
      acts.append(act("delete-group", token, "Delete all", title));
    }
    return element("li", { className: "history-group", data: { token, state: state.over ? "over" : "running" } },
      element("div", { className: "history-head" }, element("h3", { textContent: title }), element("p", { className: "history-state quiet" }), acts),
      state.note && state.members.length > 1 ? element("p", { className: "quiet", textContent: state.note }) : null,
      element("ul", {}));
  }

  function titleOf({ kind, members: { length, 0: first } }) { // of one that is left, nothing is the best
    if (kind !== "best_of") return length === 1 ? "1 picture" : `${length} pictures`;
    return length === 1 ? `What is left of several seeds: ${first.name}` : `Best of ${length} seeds: ${first.name}`;
  }

  const resultsOf = (state) => (state?.members ?? [state]).filter((one) => one?.result && !one.expired).map((one) => one.result);
  const ranked = (group) => [...group.members].sort((a, b) => (a.rank ?? 99) - (b.rank ?? 99));
  const rankOf = (one) => `${one.isOnly ? "Its" : one.rank === 1 ? "Best · its" : `No. ${one.rank} · its`} outline agrees ${Math.round(100 * one.agreement)}\u00a0%`;

  function countOf(group) {
    const counts = new Map();
    for (const one of group.members) {
      const state = OVER.includes(one.state) ? one.state : one.state === "waiting" ? "waiting" : "running";
      counts.set(state, (counts.get(state) ?? 0) + 1);
    }
    return ["done", "running", "waiting", "failed", "cancelled", "lost"].filter((name) => counts.has(name))
      .map((name) => `${counts.get(name)} ${name === "cancelled" ? "stopped" : name}`).join(", ");
  }

  function detailsOf({ options = {} }) {
    if (!options.quality) return "";
    const stance = [STANCES[options.orientation], STANCES[options.base]].filter(Boolean).map((word) => ` · ${word}`).join("");
    return `${options.size_mm} mm · ${options.quality} · ${options.format.toUpperCase()}${stance} · seed\u00a0${options.seed}`;
  }

  function age() {
    if (document.hidden) return;
    for (const when of document.querySelectorAll("#history-list time")) {
      const text = ago(Date.parse(when.dateTime) / 1000);
      if (when.textContent !== text) when.textContent = text;
    }
  }

  function ago(created) {
    const minutes = Math.round((Date.now() / 1000 - created) / 60);
    if (!created) return "";
    if (minutes < 1) return "just now";
    if (minutes < 60) return `${minutes} min ago`;
    if (minutes < 24 * 60) return `${Math.round(minutes / 60)} h ago`;
    return new Date(1000 * created).toLocaleDateString();
  }

  // --- opening, starting again, deleting -----------------------------------------------------------------------------

  function open(token) { // on the stage, and the picture and the options as they were
    passed = { token };
    restore(token, "open");
    $("history-open").click();
    $("stage").scrollIntoView({ behavior: "smooth", block: "nearest" });
  }

  function restore(token, why) {
    restoring = { token, why };
    window.orfeas.keepSide(true);
    $("history-restore").click();
  }

  async function restored(picture, said) {
    const { token, why } = restoring;
    const gone = $("history-gone");
    gone.textContent = said === "gone" ? gone.dataset.sentence : "";
    const shown = document.querySelector("#picture .image-frame img")?.src ?? "";
    if (shown === (picture ? new URL(picture.url, document.baseURI).href : "")) window.orfeas.keepSide(false); // no other comes
    if (said && said !== "gone") { // nothing came back
      if (why !== "return") window.orfeas.tell("No longer here", said);
    } else if (why === "again" && picture) {
      await window.orfeas.history.drop(token);
      $("generate").click();
    } else if (why !== "again") window.orfeas.show("model");
    else $("studio").scrollIntoView({ behavior: "smooth" });
  }

  async function drop(token, kind = "jobs") {
    const results = resultsOf(findState(token));
    try {
      const answer = await fetch(`${kind}/${token}`, { method: "DELETE" });
      if (!answer.ok && answer.status !== 404) throw new Error((await answer.json()).error);
    } catch (error) {
      $("history-error").textContent = `It could not be deleted: ${error.message}`;
      return;
    }
    compared.delete(token);
    if (results.includes(window.orfeas.shown())) window.orfeas.clear();
    if (tokens.includes(token)) forget(token);
    else refreshGroups();
  }

  // What is on the stage may be deleted in another tab, or expire: it goes, and a sentence says so.
  async function checkShown() {
    const result = window.orfeas.shown();
    const everyone = Array.from(states, ([token, state]) => (state.members ?? [{ ...state, token }])).flat();
    const token = everyone.find((one) => one.result === result)?.token;
    if (!result || !token) return;
    try {
      const answer = await fetch("jobs/look", { method: "POST", body: JSON.stringify({ tokens: [token] }), cache: "no-store" });
      if (!answer.ok) return;
      const state = (await answer.json())[token];
      if ((state && !state.expired) || window.orfeas.shown() !== result) return;
    } catch {
      return; // the connection is lost: nobody knows
    }
    window.orfeas.clear("gone");
    if (tokens.includes(token)) states.delete(token);
    refreshGroups();
  }

  function refreshGroups() { // a member was deleted: ask after all groups anew
    for (const [token, state] of states) if (state.members) states.delete(token);
    ask();
  }

  function confirmed(button) { // deleting takes two presses
    if (button.dataset.sure) return true;
    const label = button.textContent;
    button.dataset.sure = "yes";
    button.textContent = "Really delete?";
    const back = () => { delete button.dataset.sure; button.textContent = label; };
    button.addEventListener("blur", back, { once: true });
    setTimeout(back, 5000);
    return false;
  }

  // --- several at once -----------------------------------------------------------------------------------------------

  function choose(files) {
    const input = $("several-input");
    const { most, bytes } = input.dataset;
    for (const file of files) {
      const error = file.size > bytes ? `It is larger than ${bytes >> 20} MiB: reduce it.` : "";
      chosen.push({ file, address: URL.createObjectURL(file), error });
    }
    input.value = "";
    if (chosen.length > most) {
      chosen.splice(most).forEach((one) => URL.revokeObjectURL(one.address));
      complain(`Up to ${most} pictures are taken at once: these are the first.`);
    } else complain("");
    drawSeveral();
    complain("", "#several-refused");
    $("several").scrollIntoView({ behavior: "smooth", block: "start" });
  }

  function complain(sentence, where = "#several .history-error") {
    document.querySelector(where).textContent = sentence;
  }

  function drawSeveral() {
    const several = $("several");
    const good = chosen.filter((one) => !one.error).length;
    several.hidden = !chosen.length;
    $("several-title").textContent = chosen.length === 1 ? "1 picture" : `${chosen.length} pictures`;
    const make = several.querySelector('[data-history="make-several"]');
    make.textContent = good === 1 ? "Make 1 model" : `Make ${good} models`;
    make.hidden = !good;
    make.disabled = false;
    several.querySelector("ul").replaceChildren(...chosen.map((one, index) => element("li", { title: one.file.name },
      one.isUnreadable ? element("div", { className: "no-picture" }) : element("img", { src: one.address, alt: "", onerror: () => refuse(one) }),
      element("span", { textContent: one.file.name }),
      one.error ? element("em", { textContent: one.error }) : null,
      element("button", { type: "button", textContent: "×", ariaLabel: `Leave out ${one.file.name}`, data: { history: "leave-out", index } }))));
  }

  function refuse(one) { // the browser cannot show it
    if (one.isUnreadable || !chosen.includes(one)) return;
    one.isUnreadable = true;
    one.error ||= "It cannot be read as a picture: choose a JPEG, PNG or WebP.";
    drawSeveral();
  }

  async function send(form) { // a public server takes so many uploads a minute, and says when it takes the next
    for (;;) {
      const answer = await fetch("gradio_api/upload", { method: "POST", body: form });
      if (answer.status !== 429) return answer;
      await new Promise((resolve) => setTimeout(resolve, 1000 * (Number(answer.headers.get("Retry-After")) || 5)));
    }
  }

  async function makeSeveral(button) {
    button.disabled = true;
    const paths = [];
    for (const one of chosen.filter((each) => !each.error)) {
      button.textContent = `Sending ${paths.length + 1}`;
      const form = new FormData();
      form.append("files", one.file, one.file.name);
      try {
        const answer = await send(form);
        const body = await answer.json();
        if (answer.ok) paths.push(body[0]);
        else one.error = body.error || body.detail || "The server refused it.";
      } catch {
        one.error = "It could not be sent: the connection is lost.";
      }
    }
    drawSeveral();
    if (!paths.length) return;
    passed = { spec: { token: newToken(), pictures: paths }, refused: complain, taken: dropSeveral };
    button.disabled = true;
    $("history-start").click();
  }

  function dropSeveral() { // those that were not taken are named where they were
    complain(chosen.filter((one) => one.error).map((one) => `Left out: ${one.file.name}. ${one.error}`).join("\n"), "#several-refused");
    chosen.forEach((one) => URL.revokeObjectURL(one.address));
    chosen = [];
    complain("");
    drawSeveral();
  }

  function bestOf() {
    complain("", "#best-of-error");
    passed = { spec: { token: newToken(), best_of: Number($("best-of-count").value) }, refused: (sentence) => complain(sentence, "#best-of-error") };
    $("history-start").click();
  }

  function started(answer) {
    const { error } = JSON.parse(answer);
    if (error) {
      passed.refused?.(error);
      drawSeveral();
      return;
    }
    passed.taken?.();
    window.orfeas.forgive();
    add(passed.spec.token);
    $("history").scrollIntoView({ behavior: "smooth", block: "start" });
  }

  document.addEventListener("drop", (event) => { // several pictures, dropped anywhere
    const files = Array.from(event.dataTransfer?.files ?? []).filter((file) => /^image\/(jpeg|png|webp)$/.test(file.type));
    if (files.length < 2) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    choose(files);
  }, true);

  // --- which two are compared (assets/web/compare.js) ------------------------------------------------------------------

  const compared = new Set();

  function findState(token) {
    if (states.has(token)) return states.get(token);
    for (const state of states.values()) {
      const found = state.members?.find((one) => one.token === token);
      if (found) return found;
    }
    return null;
  }

  async function compare(button) {
    const { token } = button.dataset;
    if (!compared.delete(token)) compared.add(token);
    if (compared.size > 2) compared.delete(compared.values().next().value);
    drawCompare();
    $("history-error").textContent = "";
    if (compared.size < 2) return;
    const sides = [...compared].map(findState).map((one) => ({ result: one.result, name: one.name, details: detailsOf(one) }));
    try {
      await window.orfeas.compare(sides, endCompare);
    } catch (error) {
      endCompare();
      $("history-error").textContent = `These two cannot be compared: ${error.message}`;
    }
  }

  function endCompare() {
    compared.clear();
    drawCompare();
  }

  function drawCompare() {
    const buttons = document.querySelectorAll('[data-history="compare"]');
    for (const button of buttons) {
      const isChosen = compared.has(button.dataset.token);
      const label = compared.size === 1 && !isChosen ? "Compare with this" : "Compare";
      button.ariaPressed = String(isChosen);
      if (button.textContent !== label) {
        button.textContent = label;
        button.ariaLabel = button.ariaLabel.replace(/^[^:]*/, label);
      }
      const hint = button.parentElement.querySelector(".compare-next");
      const next = buttons.length > 1 ? "Choose a second one to compare it with." : "Make a second one to compare it with.";
      if (!isChosen || compared.size > 1) hint?.remove();
      else if (hint?.textContent !== next) {
        hint?.remove();
        button.parentElement.append(element("p", { className: "compare-next", textContent: next }));
        $("history-said").textContent = next;
      }
    }
  }

  // --- start -------------------------------------------------------------------------------------------------------

  const actions = {
    open: (button) => open(button.dataset.token),
    again: (button) => restore(button.dataset.token, "again"),
    compare,
    stop: (button) => post(`jobs/${button.dataset.token}/stop`).then(ask, () => {}),
    "stop-group": (button) => post(`groups/${button.dataset.token}/stop`).then(ask, () => {}),
    delete: (button) => { if (confirmed(button)) drop(button.dataset.token); },
    "delete-group": (button) => { if (confirmed(button)) drop(button.dataset.token, "groups"); },
    "more-pictures": () => $("several-input").click(),
    "make-several": makeSeveral,
    "drop-several": () => {
      dropSeveral();
      complain("", "#several-refused");
    },
    "leave-out": (button) => { chosen.splice(Number(button.dataset.index), 1); drawSeveral(); },
    "best-of": bestOf,
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-history]");
    if (button) actions[button.dataset.history]?.(button);
  });
  document.addEventListener("change", (event) => {
    if (event.target.id === "several-input") choose(event.target.files);
    if (event.target.id === "best-of-count") document.querySelector('[data-history="best-of"] span').textContent = event.target.value;
  });
  setInterval(age, AGE_MS);
  document.addEventListener("visibilitychange", age);
  window.addEventListener("storage", (event) => {
    if (event.key !== KEY) return;
    const before = tokens;
    tokens = recall();
    tokens.filter((token) => !before.includes(token)).forEach((token) => born.set(token, performance.now())); // another tab's
    ask();
    checkShown();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) checkShown(); });
  document.addEventListener("click", (event) => { if (event.target.closest?.("#result a[download], #stage-download")) checkShown(); });

  tokens = recall();
  const { begin } = window.orfeas;
  window.orfeas.begin = (seed) => { // whatever the studio starts is in the list
    const token = begin(seed);
    add(token);
    return token;
  };
  window.orfeas.history = {
    wanted: () => passed.token,
    restoring: () => restoring.token,
    spec: () => JSON.stringify(passed.spec),
    failed: () => started(JSON.stringify({ error: "The server did not take it: try again in a moment." })),
    restore, restored, started, drop,
  };
  const waiting = new MutationObserver(() => {
    if (!$("history-list")) return;
    waiting.disconnect();
    ask();
  });
  waiting.observe(document.documentElement, { childList: true, subtree: true });
})();
