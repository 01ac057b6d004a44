// What comes from the server is put into the page as text, never as markup.

const $ = (selector, root = document) => root.querySelector(selector);

function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

// say answers where the question was asked; a screen reader reads it out.
function say(near, text, className) {
  const said = $(".said", near);
  said.className = `said ${className || ""}`;
  said.textContent = text;
}

// ask calls the service, and returns what it says. It throws what a person can read.
async function ask(method, path, body, key) {
  const headers = key ? { "Idempotency-Key": `"${key}"` } : {};
  let answer;
  try {
    answer = await fetch(path, { method, body, headers });
  } catch {
    throw new Error("no answer. It may have worked: press again, and it is done once");
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.error || `the service says ${answer.status}`);
  return { ...said, again: answer.headers.has("Idempotency-Replayed"), all: said };
}

// newKey needs no secure context, as crypto.randomUUID does.
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// keyed sends a form with a key. The key stays the same until the form is changed,
// whatever comes or does not come back: so that it is done once, however often
// somebody presses.
function keyed(form, send, done) {
  let key = newKey();
  const renew = () => {
    key = newKey();
    say(form, "");
  };
  form.addEventListener("input", renew);
  form.addEventListener("reset", () => {
    renew();
    form.elements[0].focus();
  });
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    try {
      const answer = await send(new FormData(form), key);
      say(form, done(answer), "good");
      await refresh();
    } catch (error) {
      say(form, `Not done: ${error.message}.`, "bad");
    }
  });
}

keyed($("#order"), (fields, key) => {
  const wish = { customer: fields.get("customer"), sku: fields.get("sku"), quantity: Number(fields.get("quantity")) };
  return ask("POST", "/orders", JSON.stringify(wish), key);
}, (order) => order.again
  ? `Order ${shortID(order)} is placed already, and was not placed again.`
  : `Order ${shortID(order)} is placed.`);

keyed($("#import"), (fields, key) => ask("POST", "/imports", fields.get("csv"), key), (answer) => answer.again
  ? `Imported already, and not again: ${orders(answer.imported)}.`
  : `Imported: ${orders(answer.imported)}.`);

function orders(n) {
  return n === 1 ? "one order" : `${n} orders`;
}

$("#import input").addEventListener("change", async (e) => {
  const [file] = e.target.files;
  if (file) $("#import textarea").value = await file.text();
});

// shortID leaves the end of an id, which begins with the time.
function shortID(order) {
  return order.id.slice(-6);
}

function orderElement(order) {
  const li = element("li", undefined, order.status);
  const what = element("div");
  const title = element("strong", `${order.quantity} × ${order.sku} for ${order.customer}`);
  title.tabIndex = -1;
  what.append(title, element("small", `${order.status}, ${new Date(order.placed_at).toLocaleTimeString()}, ${shortID(order)}`));
  li.append(what);
  li.dataset.id = order.id;
  if (order.status === "placed") {
    const button = element("button", "Cancel");
    button.type = "button";
    button.setAttribute("aria-label", `Cancel order ${shortID(order)} of ${order.customer}`);
    button.addEventListener("click", () => cancel(order, button));
    li.append(button);
  }
  return li;
}

async function cancel(order, button) {
  const list = $("#list");
  button.disabled = true;
  try {
    const now = await ask("POST", `/orders/${encodeURIComponent(order.id)}/cancel`);
    say(list, `Order ${shortID(now)} is cancelled, and its pieces are back in the stock.`, "good");
    await refresh();
  } catch (error) {
    say(list, `Not cancelled: ${error.message}.`, "bad");
    button.disabled = false;
  }
  // The button may be gone, and the keyboard's place with it.
  const li = [...$("#orders").children].find((one) => one.dataset.id === order.id);
  (li ? $("button, strong", li) : list).focus();
}

let next; // where older orders are

async function showOrders(path, add) {
  const page = await ask("GET", path);
  const elements = page.orders.map(orderElement);
  if (add) $("#orders").append(...elements);
  else $("#orders").replaceChildren(...elements);
  next = page.next;
  $("#older").hidden = !next;
  $("#list .empty").hidden = $("#orders").children.length > 0;
  return elements[0];
}

async function showStock() {
  const { all } = await ask("GET", "/stock");
  $("#stock").replaceChildren(...all.map((article) => {
    const row = element("tr");
    const name = element("th", article.sku);
    name.scope = "row";
    row.append(name, element("td", article.quantity.toLocaleString(), "number"));
    return row;
  }));
  const select = $("#order select");
  if (select.options.length !== all.length) {
    select.replaceChildren(...all.map((article) => new Option(article.sku, article.sku, article.sku === "tea", article.sku === "tea")));
  }
}

async function refresh() {
  await Promise.all([showOrders("/orders?limit=8"), showStock()]);
}

$("#older").addEventListener("click", async () => {
  try {
    const first = await showOrders(next, true);
    if (first) $("strong", first).focus();
  } catch (error) {
    say($("#list"), `Older orders cannot be shown: ${error.message}.`, "bad");
  }
});

for (const button of document.querySelectorAll("[data-trouble]")) {
  button.addEventListener("click", async () => {
    const place = $("#trouble");
    say(place, `${button.textContent}: under way`);
    try {
      await ask("POST", `/trouble/${button.dataset.trouble}`);
      say(place, `${button.textContent}: done.`);
    } catch (error) {
      say(place, `${button.textContent}: ${error.message}.`, "bad");
    }
  });
}

refresh().catch((error) => say($("#list"), `The orders cannot be shown: ${error.message}.`, "bad"));
