// The model in the stage: a still until the canvas is drawn, three ways to draw it, and a turntable of stills where there
// is no WebGL. Gradio's viewer is Babylon's; its scene is found through Babylon's own EngineStore, whose module the page
// has loaded already.
(() => {
  "use strict";
  const root = document.documentElement;
  const DRAWN_AT_LATEST_MS = 15000; // after the model is in the scene, whatever the pixels say
  const READ_AT_LATEST_MS = 30000; // after canvas and file are there, whatever the scene says
  const GIVE_UP_MS = 120000; // then the still stays
  const $ = (id) => document.getElementById(id);
  const loaded = new Set(); // addresses of all that the page has loaded
  let store = null; // Babylon's EngineStore
  let address = ""; // of the model on the canvas
  let middle = null; // what the camera looked at when the model was first drawn
  let plain = new Map(); // mesh -> how it is drawn by itself, while it is drawn otherwise
  let wires = []; // meshes that draw the lines of those above
  let shown = null; // the result that is on the stage

  function hasWebGL() {
    try {
      const canvas = document.createElement("canvas");
      return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
    } catch {
      return false;
    }
  }

  async function loadStore() {
    const module = store ? "" : [...loaded].find((name) => /\/engineStore-[^/]*\.js$/.test(name));
    if (module) store = Object.values(await import(module)).find((part) => part && "LastCreatedScene" in part);
  }

  function sceneOf(canvas) {
    // an engine that could not start, as the one for WebGPU, stays in the list: it has no scene
    const engines = store?.Instances.filter((engine) => engine.getRenderingCanvas() === canvas) ?? [];
    return engines.flatMap((engine) => engine.scenes).find((scene) => scene.activeCamera) ?? null;
  }

  const canvasOf = () => $("viewer")?.querySelector("canvas");
  const findScene = () => sceneOf(canvasOf());

  // --- a result arrives --------------------------------------------------------------------------------------------

  function showResult(card) {
    const address = card.dataset.files;
    root.dataset.model = "yes";
    window.orfeas.show("model");
    const file = card.querySelector("a.download.first"); // on a phone it is also right below the model
    $("stage-download").href = file.href;
    $("stage-download").innerHTML = file.innerHTML;
    if (root.classList.contains("no-webgl")) {
      buildTurntable(`${address}/turntable.webp`);
      return;
    }
    const poster = $("poster");
    root.dataset.canvas = "no";
    poster.src = `${address}/poster.webp`;
    poster.hidden = false;
    waitForCanvas(card.dataset.result);
  }

  function waitForCanvas(result) {
    const started = performance.now();
    const old = new Set(findScene()?.meshes);
    const wanted = $("viewer").querySelector("a[download]")?.href ?? "";
    const isSame = wanted !== "" && wanted === address; // the same bytes again: the viewer keeps what it has
    let fetched = 0; // when canvas and file were there
    let arrived = 0; // when the model was in the scene
    const look = () => {
      if (result !== shown) return;
      const now = performance.now();
      const canvas = canvasOf();
      loadStore();
      address = $("viewer").querySelector("a[download]")?.href ?? "";
      const scene = findScene();
      const isNew = isSame || scene?.meshes.some((mesh) => mesh.getTotalVertices() && !old.has(mesh));
      if (canvas && !fetched && loaded.has(address)) fetched = now;
      if (canvas && !arrived && isNew) arrived = now;
      const isLate = (arrived && now - arrived > DRAWN_AT_LATEST_MS) || (fetched && now - fetched > READ_AT_LATEST_MS);
      if (canvas && (isLate || (isNew && isLit(scene) && isDrawn(scene, canvas)))) drawn();
      else if (now - started < GIVE_UP_MS) setTimeout(() => requestAnimationFrame(look), canvas ? 0 : 200);
    };
    setTimeout(() => requestAnimationFrame(look), 200);
  }

  // The light of the surroundings comes after the model. All shaders are made anew for it, and until they are, nothing is
  // drawn: shown before, the model would be there in the wrong light, then be gone, then be back.
  function isLit(scene) {
    return Boolean(scene.environmentTexture?.isReady() && scene.isReady());
  }

  function isDrawn(scene, canvas) { // the ground is transparent, so anything opaque is the model
    scene.render(); // the buffer is read before the browser empties it
    const small = document.createElement("canvas");
    small.width = small.height = 24;
    const context = small.getContext("2d", { willReadFrequently: true });
    try {
      context.drawImage(canvas, 0, 0, 24, 24);
      return context.getImageData(0, 0, 24, 24).data.some((value, index) => index % 4 === 3 && value > 200);
    } catch {
      return false;
    }
  }

  function drawn() {
    const scene = findScene();
    const camera = scene?.activeCamera;
    middle = camera ? camera.target.clone() : null;
    fit();
    plain = new Map();
    wires = [];
    press("view", "solid");
    for (const button of document.querySelectorAll('#switch-view button, [data-do="reset-view"]')) button.disabled = !scene;
    root.dataset.canvas = "yes";
  }

  function fit() { // the field of view is that of the shorter side, so that nothing is cut off where the stage is tall
    const camera = findScene()?.activeCamera;
    const canvas = canvasOf();
    if (camera && canvas) camera.fovMode = Number(canvas.clientWidth < canvas.clientHeight); // 1: horizontal
  }

  // --- how it is drawn -----------------------------------------------------------------------------------------------

  function press(what, value) {
    for (const button of document.querySelectorAll(`#switch-${what} button`)) {
      button.setAttribute("aria-pressed", button.dataset.value === value);
    }
  }

  function draw(view) {
    const scene = findScene();
    if (!scene) return;
    press("view", view);
    for (const [mesh, own] of plain) {
      mesh.material = own.material;
      mesh.useVertexColors = own.colours !== null;
      if (own.colours) mesh.setVerticesData("color", own.colours);
    }
    plain = new Map();
    wires.forEach((mesh) => mesh.dispose());
    wires = [];
    for (const mesh of view === "solid" ? [] : scene.meshes.filter((one) => one.getTotalVertices() && one.material)) {
      plain.set(mesh, { material: mesh.material, colours: mesh.useVertexColors ? mesh.getVerticesData("color") : null });
      if (view === "wireframe") wires.push(asLines(mesh));
      mesh.material = view === "wireframe" ? asGround(mesh) : byNormals(mesh);
    }
    paint(scene);
  }

  function paint(scene, frames = 0) { // the viewer draws only when the camera moves; shaders are compiled meanwhile
    scene.render();
    if (frames < 600 && !(scene.isReady() && frames > 2)) requestAnimationFrame(() => paint(scene, frames + 1));
  }

  function byNormals(mesh) { // each vertex in the colour of its direction: x red, y green, z blue, as normal maps have it
    const normals = mesh.getVerticesData("normal");
    const colours = new Float32Array((normals.length / 3) * 4).fill(1);
    for (let at = 0; at < normals.length; at += 1) {
      colours[Math.floor(at / 3) * 4 + (at % 3)] = ((normals[at] + 1) / 2) ** 2.2; // colours of vertices are linear
    }
    mesh.setVerticesData("color", colours);
    mesh.useVertexColors = true;
    const material = plainOf(mesh, "normals");
    material.albedoColor.set(1, 1, 1);
    material.unlit = true;
    return material;
  }

  // A second mesh of nothing but lines, lit: where they crowd, light and shade still tell the shape. A line is one pixel
  // wide whatever the mesh, so that the more of them there are, the lighter each is drawn.
  function asLines(mesh) {
    const lines = mesh.clone(`${mesh.name} lines`);
    const material = plainOf(mesh, "lines");
    material.wireframe = true;
    colourLines(material);
    material.transparencyMode = 2; // blended
    material.alpha = Math.min(0.9, Math.max(0.12, Math.sqrt(2500 / (mesh.getTotalIndices() / 3))));
    lines.useVertexColors = false;
    lines.material = material;
    return lines;
  }

  function colourLines(material) { // so that they stand out from the ground
    material.albedoColor.set(...(document.body.classList.contains("dark") ? [0.55, 0.8, 0.77] : [0.04, 0.15, 0.14]));
  }

  function asGround(mesh) { // drawn into the depth only, a little behind: it hides the lines at the back
    const material = plainOf(mesh, "ground");
    material.disableColorWrite = true;
    material.zOffset = 1;
    return material;
  }

  function plainOf(mesh, name) { // the mesh's material without pictures, made once for each name
    const kept = (mesh.orfeas ??= {});
    if (!kept[name]) {
      kept[name] = mesh.material.clone(name);
      kept[name].albedoTexture = kept[name].bumpTexture = kept[name].metallicTexture = null;
    }
    return kept[name];
  }

  function resetView(button) {
    const camera = findScene()?.activeCamera;
    if (!camera || !middle) return;
    const [alpha, beta, radius] = button.dataset.camera.split(" ").map(Number);
    camera.inertialAlphaOffset = camera.inertialBetaOffset = camera.inertialRadiusOffset = 0;
    camera.inertialPanningX = camera.inertialPanningY = 0;
    camera.setTarget(middle.clone());
    Object.assign(camera, { alpha: (alpha * Math.PI) / 180, beta: (beta * Math.PI) / 180, radius });
  }

  function toggleFullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else $("stage").requestFullscreen();
  }

  // --- without WebGL -------------------------------------------------------------------------------------------------

  function buildTurntable(source) {
    const holder = $("turntable");
    const strip = new Image();
    strip.onload = () => {
      const frames = Math.round(strip.naturalWidth / strip.naturalHeight);
      holder.style.backgroundImage = `url("${strip.src}")`;
      holder.style.backgroundSize = `${frames * 100}% 100%`;
      holder.setAttribute("aria-valuemax", frames - 1);
      holder.hidden = false;
      turnable(holder, frames);
    };
    strip.src = source;
  }

  function turnable(holder, frames) {
    let frame = 0;
    let from = null;
    const show = (number) => {
      frame = ((Math.round(number) % frames) + frames) % frames;
      holder.style.backgroundPosition = `${frames > 1 ? (100 * frame) / (frames - 1) : 0}% 0`;
      holder.setAttribute("aria-valuenow", frame);
      holder.setAttribute("aria-valuetext", `${Math.round((360 * frame) / frames)} degrees`);
    };
    holder.onpointerdown = (event) => {
      from = { x: event.clientX, frame };
      holder.setPointerCapture(event.pointerId);
    };
    holder.onpointermove = (event) => {
      if (from) show(from.frame + ((event.clientX - from.x) / holder.clientWidth) * frames);
    };
    holder.onpointerup = holder.onpointercancel = () => { from = null; };
    holder.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (step) { show(frame + step); event.preventDefault(); }
    };
    show(0);
  }

  // --- start -------------------------------------------------------------------------------------------------------

  // Heard as it comes: the browser's own list is full after 250, and a page that asks for a job's state asks often.
  new PerformanceObserver((heard) => heard.getEntries().forEach((entry) => loaded.add(entry.name))).observe({
    type: "resource", buffered: true,
  });
  root.classList.add(hasWebGL() ? "has-webgl" : "no-webgl");
  root.classList.toggle("no-fullscreen", !document.fullscreenEnabled); // as on iPhones
  Object.assign(root.dataset, { model: "no", canvas: "no" });
  new MutationObserver(() => {
    const card = document.querySelector(".result[data-result]");
    if (card && card.dataset.result !== shown && $("poster")) {
      shown = card.dataset.result;
      showResult(card);
    } else if (!card && shown) { // it was deleted
      shown = null;
      Object.assign(root.dataset, { model: "no", canvas: "no" });
      $("turntable").hidden = true;
    }
  }).observe(root, { childList: true, subtree: true });
  window.addEventListener("resize", fit);
  document.addEventListener("orfeas-theme", () => {
    wires.forEach((mesh) => colourLines(mesh.material));
    if (wires.length) paint(findScene());
  });
  Object.assign(window.orfeas.actions, {
    view: (button) => draw(button.dataset.value),
    "reset-view": resetView,
    fullscreen: toggleFullscreen,
  });
  Object.assign(window.orfeas, {
    press,
    sceneOf,
    shown: () => shown,
    draws: () => (root.classList.contains("no-webgl") ? "no" : "yes"),
  });
})();
