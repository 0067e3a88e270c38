// The page at /: totals, an upload, the list of files. What the server says (names above all) is
// data and goes in as text only.

const byId = (id) => document.getElementById(id);

// ---- words

const count = new Intl.NumberFormat();
const oneDigit = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let step = 0;
  while (bytes >= 1024 && step < units.length - 1) {
    bytes /= 1024;
    step += 1;
  }
  return `${oneDigit.format(bytes)} ${step === 0 && bytes === 1 ? "byte" : units[step]}`;
}

const plural = (number, one, many) => `${count.format(number)} ${number === 1 ? one : many}`;

/** A file's name to look at: what can't be seen, or would turn the letters round, shows as a mark. */
const visible = (name) => name.replace(/[\p{Cc}\p{Bidi_Control}]/gu, "\uFFFD") || "(no name)";

/** The same inside a sentence: cut, and isolated from the words around it. */
function quoted(name) {
  const letters = [...visible(name)];
  const text = letters.length > 80 ? `${letters.slice(0, 79).join("")}…` : letters.join("");
  return `“\u2068${text}\u2069”`;
}

// ---- talking to the server

/** What a person should read about an answer that is not a success. */
function explanation(status, body, retryAfter) {
  let problem = {};
  try {
    problem = JSON.parse(body) ?? {};
  } catch {
    // Something between the server and us answered in its own way.
  }
  const parts = [problem.detail || problem.title || `The server answered with status ${status}.`];
  if (Number(retryAfter) > 0) parts.push(`Try again in ${plural(Number(retryAfter), "second", "seconds")}.`);
  if (problem.requestId) parts.push(`(Request ${problem.requestId})`);
  return parts.join(" ");
}

async function call(path, method = "GET") {
  let response;
  try {
    response = await fetch(path, { method });
  } catch {
    throw new Error("The server can’t be reached.");
  }
  if (!response.ok) {
    throw new Error(explanation(response.status, await response.text(), response.headers.get("Retry-After")));
  }
  return response.status === 204 ? null : response.json();
}

function say(notice, text) {
  for (const id of ["done", "failed"]) {
    byId(id).textContent = id === notice ? text : "";
    byId(id).hidden = id !== notice;
  }
}

// ---- totals

async function showTotals() {
  try {
    const stats = await call("/api/stats");
    byId("total-files").textContent = count.format(stats.files);
    byId("total-logical").textContent = size(stats.logicalBytes);
    byId("total-stored").textContent = size(stats.storedBytes);
    byId("total-ratio").textContent = stats.storedBytes ? `${oneDigit.format(stats.dedupRatio)} ×` : "–";
    const active = stats.nodes.filter((node) => node.state === "active").length;
    byId("total-nodes").textContent = `${active} of ${stats.nodes.length}`;
    byId("totals").title = `As of ${moment.format(new Date(stats.at))}`;
    byId("totals").classList.remove("stale");
  } catch {
    byId("totals").title = "These figures can’t be had now";
    byId("totals").classList.add("stale");
  }
}

// ---- the list

// The cursor of the page to come: null behind the last one, undefined before the first.
let next;
let loading = false;

function rowOf(file) {
  const row = byId("row").content.firstElementChild.cloneNode(true);
  const name = row.querySelector(".name bdi");
  row.id = `file-${file.id}`;
  name.id = `name-${file.id}`;
  name.textContent = visible(file.name);
  name.title = name.textContent;
  row.querySelector(".size").textContent = size(file.size);
  row.querySelector(".size").title = plural(file.size, "byte", "bytes");
  row.querySelector("time").dateTime = file.createdAt;
  row.querySelector("time").textContent = moment.format(new Date(file.createdAt));
  const [download, remove] = row.querySelectorAll(".actions > *");
  download.href = `/api/files/${encodeURIComponent(file.id)}`;
  download.id = `download-${file.id}`;
  remove.id = `delete-${file.id}`;
  for (const action of [download, remove]) action.setAttribute("aria-labelledby", `${action.id} ${name.id}`);
  remove.addEventListener("click", () => deleteFile(file));
  return row;
}

function showFile(file, where) {
  if (!byId(`file-${file.id}`)) byId("rows")[where](rowOf(file));
}

function showCount() {
  const rows = byId("rows").children.length;
  const focused = document.activeElement === byId("more");
  byId("table").hidden = rows === 0;
  byId("more").hidden = next === null;
  if (focused && next === null) byId("files-title").focus();
  if (next === null) byId("listing").textContent = rows === 0 ? "No files yet." : `${plural(rows, "file", "files")}.`;
  else if (next) byId("listing").textContent = `The newest ${plural(rows, "file", "files")}; there are more.`;
}

async function showMore() {
  if (loading) return;
  loading = true;
  try {
    const page = await call(next ? `/api/files?${new URLSearchParams({ after: next })}` : "/api/files");
    next = page.next;
    for (const file of page.files) showFile(file, "append");
    byId("more").textContent = "More";
    showCount();
  } catch (error) {
    byId("listing").textContent = `The list can’t be had. ${error.message}`;
    byId("more").textContent = "Try again";
    byId("more").hidden = false;
  } finally {
    loading = false;
  }
}

function confirmed(file) {
  const dialog = byId("confirm");
  byId("confirm-name").textContent = visible(file.name);
  dialog.returnValue = "keep";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "delete"), { once: true });
  });
}

async function deleteFile(file) {
  if (!(await confirmed(file))) return;
  try {
    await call(`/api/files/${encodeURIComponent(file.id)}`, "DELETE");
  } catch (error) {
    say("failed", `${quoted(file.name)} was not deleted. ${error.message}`);
    return;
  }
  byId(`file-${file.id}`)?.remove();
  showCount();
  say("done", `${quoted(file.name)} is deleted.`);
  byId("files-title").focus();
  showTotals();
}

// ---- uploading

let sending = null;

function saving(result) {
  const { chunks, bytes } = result;
  const stored = `${quoted(result.file.name)} is stored.`;
  if (chunks.total === 0) return `${stored} It is empty.`;
  if (chunks.linked === 0) return `${stored} None of it was there before, so all ${size(bytes.received)} took space.`;
  const saved = `${size(bytes.saved)} (${percent.format(bytes.saved / bytes.received)})`;
  const linked = `${count.format(chunks.linked)} of ${plural(chunks.total, "chunk", "chunks")}`;
  return `${stored} Already there: ${linked}, so ${saved} took no space. New: ${size(bytes.stored)}.`;
}

/** Send the form and report its progress, which fetch can't do. */
async function send(form, request, onProgress) {
  await new Promise((resolve, reject) => {
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("load", resolve);
    request.addEventListener("abort", () => reject(new Error("It was cancelled.")));
    request.addEventListener("error", () => reject(new Error("The file can’t be read, or the connection broke off.")));
    request.open("POST", "/api/upload");
    request.send(form);
  });
  if (request.status === 201) return JSON.parse(request.responseText);
  throw new Error(explanation(request.status, request.responseText, request.getResponseHeader("Retry-After")));
}

/** Show one of the two faces of the upload box; whoever has the focus in the other keeps it here. */
function face(show, hide, focus) {
  const focused = byId(hide).contains(document.activeElement);
  byId(show).hidden = false;
  byId(hide).hidden = true;
  if (focused) byId(focus).focus();
}

async function upload(file) {
  if (sending) {
    say("failed", "An upload is running. Wait for it, or cancel it.");
    return;
  }
  sending = new XMLHttpRequest();
  const form = new FormData();
  form.append("file", file);
  say(null, "");
  showSending(file, 0, file.size || 1);
  face("sending", "drop", "cancel");
  try {
    const result = await send(form, sending, (sent, total) => showSending(file, sent, total));
    for (const stored of result.files) showFile(stored, "prepend");
    showCount();
    say("done", saving(result));
  } catch (error) {
    say("failed", `${quoted(file.name)} was not stored. ${error.message}`);
  } finally {
    sending = null;
    byId("pick").value = "";
    face("drop", "sending", "pick");
    showTotals();
  }
}

function showSending(file, sent, total) {
  byId("progress").value = sent / total;
  const text = byId("sending-text");
  if (sent < total) text.textContent = `Sending ${quoted(file.name)}: ${percent.format(sent / total)} of ${size(total)}…`;
  else text.textContent = `Storing ${quoted(file.name)}…`;
}

function takeDrops() {
  const mark = (on) => byId("drop").classList.toggle("over", on);
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) mark(false);
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    mark(false);
    const { files } = event.dataTransfer;
    if (files.length === 1) upload(files[0]);
    else say("failed", "Drop one file at a time.");
  });
}

// ---- start

byId("pick").addEventListener("change", (event) => {
  if (event.target.files.length) upload(event.target.files[0]);
});
byId("cancel").addEventListener("click", () => sending?.abort());
byId("more").addEventListener("click", showMore);
takeDrops();
showMore();
showTotals();
setInterval(() => document.hidden || showTotals(), 10_000);
