// What the page shows comes from the server as JSON and is put into it as text, never as
// markup.

const $ = (selector, root = document) => root.querySelector(selector);

function element(name, className, text) {
  const e = document.createElement(name);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

// setText changes what has changed, so that a reader's selection stays.
function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

function duration(ms) {
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60000);
  if (minutes < 60) return `${minutes} min ${Math.floor(ms / 1000) % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// shortPlace leaves the last two parts of a file's path.
function shortPlace(place) {
  const [file, ...rest] = place.split(" ");
  return [file.split("/").slice(-2).join("/"), ...rest].join(" ");
}

// Lists keep their elements, by the unit's number, so that the focus stays where it is.

function unitElement(unit) {
  const li = element("li");
  li.append(element("span", "age"), element("span", "name"), element("div", "what"));
  const open = element("button", "", "Timeline");
  open.type = "button";
  open.addEventListener("click", () => openTimeline(unit.ID, open));
  li.append(open);
  li.dataset.id = unit.ID;
  return li;
}

function lines(unit) {
  const all = [];
  if (!unit.Over) {
    all.push(["p", "", `${unit.Doing}, for ${duration(unit.Since)}`]);
    if (unit.Statement) all.push(["p", "text", unit.Statement]);
    if (unit.Opened) all.push(["p", "place", `opened at ${shortPlace(unit.Opened)}`]);
  } else if (unit.Error) {
    all.push(["p", "failed", `${unit.Outcome}: ${unit.Error}`]);
  } else {
    all.push(["p", unit.Outcome === "committed" ? "committed" : "", summary(unit)]);
  }
  for (const found of unit.Found || []) {
    all.push(["p", "found", found.Sentence]);
    if (found.At) all.push(["p", "place", `at ${shortPlace(found.At)}`]);
    if (found.Opened && found.Opened !== unit.Opened) all.push(["p", "place", `transaction opened at ${shortPlace(found.Opened)}`]);
    if (found.Text) all.push(["p", "text", found.Text]);
  }
  return all;
}

function summary(unit) {
  const outcome = unit.Outcome === "none" ? "no transaction" : unit.Outcome;
  const parts = [outcome, `${unit.Statements} ${unit.Statements === 1 ? "statement" : "statements"}`];
  if (unit.Waited >= 1) parts.push(`waited ${duration(unit.Waited)}`);
  if (unit.Idle >= 1) parts.push(`idle in transaction ${duration(unit.Idle)}`);
  return parts.join(", ");
}

function fill(li, unit) {
  const [age, name, what, button] = li.children;
  setText(age, duration(unit.Took));
  const title = unit.Name || "unit of work";
  if (name.dataset.title !== title) {
    name.dataset.title = title;
    name.replaceChildren(title, element("small", "", `#${unit.ID}${unit.Parent ? ` in #${unit.Parent}` : ""}${unit.Attempt > 1 ? `, attempt ${unit.Attempt}` : ""}`));
    button.setAttribute("aria-label", `Timeline of ${title}, number ${unit.ID}`);
  }
  const wanted = lines(unit);
  while (what.children.length > wanted.length) what.lastChild.remove();
  wanted.forEach(([tag, className, text], i) => {
    const line = what.children[i] || what.appendChild(element(tag));
    if (line.className !== className) line.className = className;
    setText(line, text);
  });
}

function update(list, units) {
  const known = new Map([...list.children].map((li) => [li.dataset.id, li]));
  let place = list.firstElementChild;
  for (const unit of units) {
    let li = known.get(String(unit.ID));
    if (li) known.delete(String(unit.ID));
    else li = unitElement(unit);
    if (li === place) place = place.nextElementSibling;
    else list.insertBefore(li, place);
    fill(li, unit);
    while (place && !known.has(place.dataset.id)) place = place.nextElementSibling;
  }
  for (const li of known.values()) {
    const focused = li.contains(document.activeElement);
    li.remove();
    if (focused) list.closest("section").focus({ preventScroll: true });
  }
  $(".empty", list.closest("section")).hidden = units.length > 0;
}

function cells(row, texts, numbers) {
  texts.forEach((text, i) => {
    const cell = row.children[i] || row.appendChild(element(i === 0 ? "th" : "td"));
    if (i === 0) cell.scope = "row";
    if (i >= numbers) cell.className = "number";
    setText(cell, text);
  });
}

function updateHosts(hosts) {
  const body = $("#host-rows");
  while (body.children.length > hosts.length) body.lastChild.remove();
  hosts.forEach((h, i) => {
    const role = h.Role ? h.Role + (h.Error ? `: ${h.Error}` : "") : "-";
    cells(body.children[i] || body.appendChild(element("tr")), [
      h.Host || "of the connection string", h.DB || h.Cluster || "-", role, h.LagKnown ? duration(h.Lag) : "-",
      String(h.Reads), h.Reads ? `${h.Share} %` : "-", String(h.Others),
    ], 3);
  });
  const section = $("#hosts");
  $("table", section).hidden = hosts.length === 0;
  $(".empty", section).hidden = hosts.length > 0;
}

let latest;

function show(overview) {
  latest = overview;
  const numbers = {
    live: overview.Live.length + overview.Hidden, waiting: overview.Waiting, open: overview.Open,
    units: overview.Units, failed: overview.Failed, found: overview.Found,
  };
  for (const [name, n] of Object.entries(numbers)) setText($(`[data-number="${name}"]`), String(n));
  for (const list of document.querySelectorAll("[data-list]")) update(list, overview[list.dataset.list]);
  $("#more").hidden = overview.Hidden === 0;
  setText($("#more"), `and ${overview.Hidden} younger ones`);
  updateHosts(overview.Hosts || []);
}

// The timeline of one unit.

let opened; // { id, from, timer }

async function openTimeline(id, from) {
  closeTimeline(false);
  opened = { id, from };
  await loadTimeline(true);
}

async function loadTimeline(first) {
  const { id } = opened;
  let answer;
  try {
    answer = await fetch(`units/${id}`, { cache: "no-store" });
  } catch {
    answer = null;
  }
  if (!opened || opened.id !== id) return;
  if (answer && answer.ok) {
    const unit = await answer.json();
    if (!opened || opened.id !== id) return;
    showTimeline(unit);
    if (!unit.Over) opened.timer = setTimeout(() => loadTimeline(false), 1000);
  } else if (first) {
    $("#timeline-title").textContent = `Unit ${id} is not kept any more`;
    $("#timeline-facts").replaceChildren();
    $("#steps").replaceChildren();
  }
  $("#timeline").hidden = false;
  if (first) {
    $("#timeline").scrollIntoView({ block: "start" });
    $("#timeline-title").focus({ preventScroll: true });
  }
}

function closeTimeline(back) {
  if (!opened) return;
  clearTimeout(opened.timer);
  const { from } = opened;
  opened = null;
  $("#timeline").hidden = true;
  if (back) (from.isConnected ? from : $("#live")).focus();
}

function fact(name, value, className) {
  const row = element("div");
  row.append(element("dt", "", name), element("dd", className, value));
  return row;
}

function showTimeline(unit) {
  setText($("#timeline-title"), `Timeline of ${unit.Name || "unit of work"}, number ${unit.ID}`);
  const facts = element("dl");
  facts.append(fact("began", new Date(unit.Began).toLocaleTimeString()), fact(unit.Over ? "took" : "under way for", duration(unit.Took)));
  if (unit.Over) facts.append(fact("outcome", unit.Outcome, unit.Error ? "failed" : ""));
  else facts.append(fact("now", unit.Doing));
  if (unit.Error) facts.append(fact("error", unit.Error, "failed"));
  facts.append(fact("statements", String(unit.Statements)), fact("waited", duration(unit.Waited)), fact("idle in transaction", duration(unit.Idle)));
  if (unit.Attempt > 1) facts.append(fact("attempt", String(unit.Attempt)));
  if (unit.ReadOnly) facts.append(fact("read-only", "yes"));
  if (unit.Opened) facts.append(fact("opened at", unit.Opened));
  for (const found of unit.Found || []) {
    facts.append(fact("suspicious", found.Sentence, "found"));
    if (found.At) facts.append(fact("at", found.At));
    if (found.Opened && found.Opened !== unit.Opened) facts.append(fact("transaction opened at", found.Opened));
    if (found.Text) facts.append(fact("statement", found.Text));
  }
  $("#timeline-facts").replaceChildren(facts);
  const whole = Math.max(unit.Took, ...unit.Steps.map((s) => s.Start + s.Took), 0.001);
  const rows = unit.Steps.map((s) => stepRow(s, whole));
  if (unit.Dropped) {
    const row = element("tr");
    cells(row, [`${unit.Dropped} further steps are not kept`], 9);
    row.firstChild.colSpan = 4;
    rows.push(row);
  }
  $("#steps").replaceChildren(...rows);
}

const words = { application: "application, transaction open", wait: "wait for a connection" };

function stepRow(step, whole) {
  const row = element("tr");
  const what = element("th");
  what.scope = "row";
  const count = step.Count > 1 ? ` (${step.Count} together)` : "";
  what.append(`${words[step.Kind] || step.Kind}${count}${step.DB ? ` on ${step.DB}` : ""}`);
  if (step.Text) what.append(element("small", "text", ` ${step.Text}`));
  if (step.Outcome && step.Outcome !== "committed") what.append(element("small", "failed", ` ${step.Outcome}`));
  if (step.Failed) what.append(element("small", "failed", " failed"));
  const lane = element("div", "lane");
  const bar = element("div", `bar ${step.Kind.split(" ")[0]}`);
  bar.style.left = `${Math.min(99, (100 * step.Start) / whole)}%`;
  bar.style.width = `${Math.min(100, (100 * step.Took) / whole)}%`;
  lane.append(bar);
  lane.setAttribute("aria-hidden", "true");
  const when = element("td", "wide");
  when.append(lane);
  row.append(what, element("td", "number", duration(step.Start)), element("td", "number", duration(step.Took)), when);
  return row;
}

$("#close").addEventListener("click", () => closeTimeline(true));
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape" && opened) closeTimeline(true);
});

// The stream.

let source;
let paused = false;

function status(text, lost) {
  const e = $("#connection");
  setText(e, text);
  e.classList.toggle("lost", lost);
}

function connect() {
  source = new EventSource("stream");
  source.addEventListener("open", () => status("live", false));
  source.addEventListener("message", (e) => {
    status("live", false);
    show(JSON.parse(e.data));
  });
  source.addEventListener("error", () => {
    status("the connection is lost, trying again", true);
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (!paused) connect(); }, 3000);
  });
}

$("#pause").addEventListener("click", () => {
  paused = !paused;
  $("#pause").setAttribute("aria-pressed", String(paused));
  setText($("#pause"), paused ? "Go on" : "Pause");
  if (paused) {
    source.close();
    status(`paused at ${new Date(latest ? latest.Now : Date.now()).toLocaleTimeString()}`, false);
  } else {
    connect();
  }
});

connect();
