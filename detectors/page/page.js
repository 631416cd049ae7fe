// The page's controls. All that walks over pixels happens in worker.js, so that large pictures do not freeze the tab.

const find = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
const settings = await (await fetch("settings")).json();

let file = null, running = null, shares = null, job = 0;

find("limits").textContent =
  `PNG, JPEG, BMP, TIFF or WebP, up to ${settings.megabytes} MB and ${settings.megapixels} megapixels`;
const stops = settings.colours.filter((_, index) => index % 15 === 0);
find("scale").style.background = `linear-gradient(90deg, ${stops.map((colour) => `rgb(${colour})`)})`;
find("detectors").hidden = settings.detectors.length < 2;
find("detector").append(...settings.detectors.map((name) => new Option(name)));

// ── pictures in

find("file").onchange = () => { take(find("file").files); find("file").value = ""; };
find("detector").onchange = () => { start(); if (file) analyse(file); };
find("cancel").onclick = () => running?.abort();
document.onpaste = (event) => event.clipboardData.files.length && take(event.clipboardData.files);
document.ondragover = (event) => { event.preventDefault(); document.body.classList.add("dragging"); };
document.ondragleave = (event) => event.relatedTarget || document.body.classList.remove("dragging");
document.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files);
};

function take(files) {
  if (files.length) analyse(files[0]);
  else complain("That was no file. Save the picture first, then drop or choose it.");
}

function complain(text) {
  find("error").textContent = text;
  find("error").hidden = !text;
}

async function ask(path, body, signal) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", body, signal });
  } catch (error) {
    throw signal.aborted ? error : new Error("The server does not answer. Is giidnet serve still running?");
  }
  if (answer.status === 500) throw new Error("The server failed on this picture; its terminal says why.");
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

async function analyse(picture) {
  running?.abort();
  const own = running = new AbortController(), started = performance.now(), detector = find("detector").value;
  file = picture;
  job++;  // what the worker still has to say of the last picture is passed over
  const show = () => { find("elapsed").textContent = `${Math.round((performance.now() - started) / 1000)} s`; };
  show();
  const clock = setInterval(show, 500);
  complain("");
  find("progress").hidden = false;
  find("working").textContent = `Looking at ${picture.name}`;
  find("result").hidden = true;
  document.body.classList.add("busy");
  document.body.classList.remove("shown");
  try {
    if (picture.size > settings.megabytes * 1e6) throw new Error(`This file: larger than ${settings.megabytes} MB.`);
    const map = await (await ask(`map?detector=${detector}`, picture, own.signal)).arrayBuffer();
    const [height, width] = new TextDecoder().decode(map.slice(10, 128)).match(/\d+, \d+/)[0].split(", ").map(Number);
    let bitmap = await createImageBitmap(picture).catch(() => null);
    if (bitmap?.width !== width || bitmap.height !== height)  // TIFF, say: the browser does not know all that OpenCV does
      bitmap = await createImageBitmap(await (await ask("picture", picture, own.signal)).blob());
    if (own.signal.aborted) return;
    load(map, bitmap, `${file.name}, ${width}×${height}, ${detector}`);
  } catch (error) {
    if (!own.signal.aborted) complain(error.message);
  } finally {
    clearInterval(clock);
    if (running === own) {
      find("progress").hidden = true;
      document.body.classList.remove("busy");
    }
  }
}

// ── what came back

function load(map, bitmap, title) {
  find("stage").replaceChildren();  // a canvas can be handed to the worker once only
  const canvases = {};
  for (const name of ["photo", "heat", "outlines"]) {
    const canvas = document.createElement("canvas");
    canvas.className = name;
    find("stage").append(canvas);
    canvases[name] = canvas.transferControlToOffscreen();
  }
  find("result").style.setProperty("--ratio", bitmap.width / bitmap.height);
  find("name").textContent = title;
  worker.postMessage({ job, task: "load", map, bitmap, canvases, colours: settings.colours,
                       threshold: threshold() }, [map, bitmap, ...Object.values(canvases)]);
}

worker.onmessage = ({ data }) => {
  if (data.job !== job) return;
  if (data.error) return complain(data.error);
  if (data.shares) {
    shares = data.shares;
    find("result").hidden = false;
    document.body.classList.add("shown");
    tell();
  }
  if (data.blob) save(data.blob, data.name);
};
worker.onerror = () => complain("The browser could not show this picture; it may be too large for it.");

const threshold = () => Number(find("threshold").value);

function start() {
  find("threshold").value = settings.thresholds[find("detector").value];
  find("threshold-value").textContent = threshold().toFixed(2);
}
start();

function tell() {
  const share = shares[Math.round(100 * threshold())], percent = 100 * share;
  find("threshold-value").textContent = threshold().toFixed(2);
  find("share").textContent = `${percent && percent < 0.01 ? "< 0.01" : percent.toFixed(percent < 10 ? 2 : 1)} %`;
  find("meaning").textContent =
    share === 0 ? "Nothing reaches the threshold. That does not show that the picture is untouched."
      : share > 0.5 ? "More than half is flagged: at this threshold the map singles out no region."
        : "Look whether the outlined regions match something that could have been removed.";
}

find("threshold").oninput = () => {
  tell();
  worker.postMessage({ job, task: "outline", threshold: threshold() });
};
find("strength").oninput = () => {
  find("strength-value").textContent = `${find("strength").value} %`;
  find("stage").style.setProperty("--strength", find("strength").value / 100);
};
find("views").onchange = (event) => { find("stage").dataset.view = event.target.value; };

// ── downloads

for (const button of document.querySelectorAll("[data-save]"))
  button.onclick = () => worker.postMessage({ job, task: "save", name: button.dataset.save, threshold: threshold(),
                                              strength: find("strength").value / 100 });

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${file.name.replace(/\.[^.]*$/, "")}_${name}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
