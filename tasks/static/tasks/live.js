/* Keeps a page up to date. The page works without it: buttons and links need no socket. */
import htmx from "./vendor/htmx-4.0.1.js";

const root = document.getElementById("af-root");
const place = document.getElementById("af-live");
const facts = place?.dataset ?? {};

// Of htmx only the morph is used: it must not touch anything by itself, here or in the host's page.

let morph = (old, fragment) => old.replaceWith(fragment);
htmx.initialize = htmx.process = () => {};
htmx.registerExtension("aftersave", { init: (api) => (morph = api.morph) });
// What a reader has opened stays open, whatever the server thinks.
Object.assign(htmx.config, { history: false, prefix: "", morphSkip: "", morphSkipChildren: "", morphIgnore: ["open"] });
document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => sheet !== htmx.indicatorStyleSheet);

const SILENCE = 12000; // the server says something every 5 s
const POLL_AFTER = 10000;
const POLL_EVERY = 2000;
const POLL_HIDDEN = 15000;
const TICKET_LASTS = 45000; // it is good for a minute
const PATIENCE = 10000;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10000;

const SIGNED_OUT = 4401;
const NOT_ALLOWED = 4403;
const GONE = 4404;
const EXPIRED = 4408;

const now = () => performance.now();
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const put = (element, text) => {
  if (element && element.textContent !== text) element.textContent = text;
};
const clock = (moment) => moment.toLocaleTimeString(document.documentElement.lang || undefined);

// What is told to the ear: manners.js does it, seldom.

const say = (text) => root.dispatchEvent(new CustomEvent("af:say", { detail: { text } }));

// The region: what the server sends takes the place of what is there, and nobody loses theirs.

const rowsPart = () => (facts.rows ? document.getElementById(facts.rows) : null);
const rowsOf = (part) => [...(part?.children ?? [])].filter((row) => /^af-task-\d+$/.test(row.id));
const idOf = (row) => Number(row.id.slice("af-task-".length));
const title = document.title;

let here = null; // ids of the tasks that the list would show now, in its order
let newest = ""; // the database's time of what is shown
let frozenAt = null;
let letThemIn = false; // the reader pressed "show"

const isReading = (part) =>
  !("afFirst" in part.dataset) ||
  part.getBoundingClientRect().top < 0 ||
  part.contains(document.activeElement) ||
  part.querySelector("input:checked, details[open]") !== null ||
  (matchMedia("(hover: hover)").matches && part.matches(":hover")) ||
  hasSelection(part);

const hasSelection = (part) => {
  const selection = getSelection();
  return selection.rangeCount > 0 && !selection.isCollapsed && selection.getRangeAt(0).intersectsNode(part);
};

const elementOf = (html, moment) => {
  const template = document.createElement("template");
  template.innerHTML = html;
  const fragment = template.content;
  fragment.replaceChildren(...[fragment.firstElementChild].filter(Boolean));
  root.dispatchEvent(new CustomEvent("af:incoming", { detail: { fragment, now: moment } }));
  return fragment;
};

const replace = (id, fragment) => {
  const old = document.getElementById(id);
  if (old && root.contains(old) && fragment.firstElementChild?.id === id) morph(old, fragment, false);
};

const replaceRows = (fragment) => {
  const part = rowsPart();
  if (letThemIn || !isReading(part)) {
    letThemIn = false;
    replace(facts.rows, fragment);
    return;
  }
  for (const row of rowsOf(fragment.firstElementChild)) {
    const alone = document.createDocumentFragment();
    alone.append(row);
    replace(row.id, alone);
  }
};

const apply = (message) => {
  if (message.now < newest) return;
  newest = message.now;
  for (const { id, html } of message.parts ?? []) {
    const fragment = elementOf(html, message.now);
    if (id === facts.rows) replaceRows(fragment);
    else replace(id, fragment);
  }
  for (const { id, html } of message.rows ?? []) replace(id, elementOf(html, message.now));
  if (message.here) here = message.here;
  if ("note" in message) noteInTitle(message.note);
  sayTotals();
  root.dispatchEvent(new CustomEvent("af:updated", { detail: { now: message.now } }));
  lookAtNews();
};

// Totals, as they stand at the end of a burst.

const totals = () =>
  [...root.querySelectorAll("[data-af-total]")].map((one) => one.dataset.afTotal).filter(Boolean).join(", ");
let saidTotals = root && totals();
const sayTotals = () => {
  const text = totals();
  if (text && text !== saidTotals) say(text);
  saidTotals = text;
};

const noteInTitle = (note) => {
  document.title = note ? `(${note}) ${title}` : title;
};

// News: rows that came or went while the reader's own stay where they are.

const counted = (count, one, many) => (count ? (count === 1 ? one : many).replace("{count}", count) : "");

const lookAtNews = () => {
  const part = rowsPart();
  const button = document.getElementById("af-news");
  if (frozenAt && button) button.hidden = true;
  if (!part || !here || !button || frozenAt) return;
  const shown = rowsOf(part).map(idOf);
  tellShown(shown);
  const fresh = here.filter((id) => !shown.includes(id)).length;
  const gone = rowsOf(part).filter((row) => row.classList.contains("af-gone")).length;
  const isSame = shown.join() === here.join();
  if (!isSame && !isReading(part)) wantRows();
  const words = [counted(fresh, facts.newOne, facts.newMany), counted(gone, facts.goneOne, facts.goneMany)];
  const text = words.filter(Boolean).join(", ");
  const isNews = Boolean(text) && isReading(part);
  if (isNews && button.textContent !== `${text} – ${facts.show}`) {
    put(button, `${text} – ${facts.show}`);
    say(text);
  }
  button.hidden = !isNews;
};

const wantRows = () => {
  if (socket?.isWhole) tell({ want: "rows" });
};

const showNews = () => {
  letThemIn = true;
  document.getElementById("af-news").hidden = true;
  if (socket?.isWhole) wantRows();
  else poll();
};

// How live the page is

let socket = null;
let stopped = null; // why the page is not followed any more: a word of the place's data
let how = "";
let isBusy = false;
let isInTrouble = false;
let polled = false; // the last answer came by HTTP
let heardAt = now();
let heardTime = new Date();

const showStatus = () => {
  const isLive = Boolean(socket?.isWhole) && !isInTrouble;
  root.classList.toggle("af-live-on", isLive);
  root.classList.toggle("af-stale", !isLive && !polled);
  root.classList.toggle("af-frozen", Boolean(frozenAt));
  put(document.getElementById("af-live-text"), statusText(isLive));
  const link = document.getElementById("af-live-link");
  link.hidden = !stopped;
};

const statusText = (isLive) => {
  if (stopped) return facts[stopped];
  if (frozenAt) return facts.frozen.replace("{time}", clock(frozenAt));
  if (isLive) return facts[how] + (isBusy ? ` ${facts.busy}` : "");
  if (socket?.isWhole) return facts.trouble;
  if (polled) return facts.asgi ? facts.poll : facts.wsgi;
  return newest || now() - startedAt > SILENCE ? facts.off.replace("{time}", clock(heardTime)) : facts.connecting;
};

const heard = () => {
  heardAt = now();
  heardTime = new Date();
};

const stop = (why) => {
  stopped = why;
  say(facts[why]);
  hangUp();
  showStatus();
};

// By socket

const startedAt = now();
let ticket = facts.ticket;
let ticketAt = now();
let pause = FIRST_PAUSE;
let attemptAt = now();
let isConnecting = false;
let wholeAt = now(); // when the page was last whole, or began

const tell = (words) => {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(words));
};

let told = "";
const tellShown = (shown) => {
  if (!socket?.isWhole || told === shown.join()) return;
  told = shown.join();
  tell({ shown });
};

const hangUp = () => {
  const old = socket;
  socket = null;
  old?.close();
};

const connect = async () => {
  if (isConnecting || socket || stopped) return;
  isConnecting = true;
  attemptAt = now();
  const hasTicket = now() - ticketAt < TICKET_LASTS || (await renewTicket());
  isConnecting = false;
  if (stopped || socket) return;
  if (hasTicket) open();
  else setTimeout(connect, FIRST_PAUSE);
};

const open = () => {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const one = new WebSocket(`${scheme}//${location.host}${facts.socket}?ticket=${encodeURIComponent(ticket)}`);
  socket = one;
  attemptAt = now();
  one.onopen = () => {
    told = rowsOf(rowsPart()).map(idOf).join();
    one.send(JSON.stringify({ shown: told ? told.split(",").map(Number) : [], hidden: document.hidden }));
  };
  one.onmessage = ({ data }) => one === socket && hear(one, JSON.parse(data));
  one.onclose = ({ code }) => one === socket && ended(code);
};

const hear = (one, message) => {
  heard();
  if ("seq" in message) {
    ({ how, busy: isBusy, trouble: isInTrouble } = message);
    if (message.whole) {
      one.isWhole = true;
      newest = ""; // from another server perhaps, whose clock is another
      polled = false;
      pause = FIRST_PAUSE;
    }
    if (!frozenAt && !isOlder(one, message)) apply(message);
  }
  showStatus();
};

const isOlder = (one, { seq }) => {
  const known = one.seq ?? 0;
  one.seq = Math.max(known, seq);
  return seq <= known;
};

const ended = async (code) => {
  if (socket?.isWhole) wholeAt = now();
  socket = null;
  showStatus();
  if (code === NOT_ALLOWED) return stop("notAllowed");
  if (code === GONE) return stop("gone");
  // Perhaps it is only this session's key that is new: whoever is signed in gets a ticket.
  if (code === SIGNED_OUT || code === EXPIRED) ticketAt = -Infinity;
  await sleep(pause * (0.5 + Math.random() / 2));
  pause = Math.min(LONGEST_PAUSE, pause * 2);
  connect();
};

const renewTicket = async () => {
  const answer = await ask(facts.renew);
  if (!answer) return false;
  ({ ticket } = answer);
  ticketAt = now();
  return true;
};

// By HTTP

const ask = async (address, more = {}) => {
  const query = new URLSearchParams({ ticket, ...more });
  try {
    const options = { redirect: "manual", cache: "no-store", signal: AbortSignal.timeout(PATIENCE) };
    const response = await fetch(`${address}?${query}`, options);
    if (response.type === "opaqueredirect" || response.status === 401) stop("signedOut");
    else if (response.status === 403) stop("notAllowed");
    else if (response.status === 404) stop("gone");
    else if (response.ok) return await response.json();
  } catch {
    // No answer, or none in time: it is asked again.
  }
  return null;
};

let isPolling = false;
const poll = async () => {
  if (isPolling || stopped) return;
  isPolling = true;
  const answer = await ask(facts.pollAddress, { shown: rowsOf(rowsPart()).map(idOf).join() });
  isPolling = false;
  polledAt = now();
  if (socket?.isWhole || stopped) return;
  polled = Boolean(answer);
  if (answer) {
    heard();
    ({ ticket } = answer);
    ticketAt = now();
    if (!frozenAt) apply(answer);
  }
  showStatus();
};

let polledAt = -Infinity;
const mustPoll = () => {
  if (socket?.isWhole || stopped) return false;
  const waited = facts.asgi ? now() - wholeAt > POLL_AFTER : true;
  return waited && now() - polledAt > (document.hidden ? POLL_HIDDEN : POLL_EVERY);
};

// Second by second

const look = () => {
  if (stopped) return;
  if (facts.asgi && socket && now() - Math.max(heardAt, attemptAt) > SILENCE) {
    if (socket.isWhole) {
      wholeAt = heardAt;
      say(facts.off.replace("{time}", clock(heardTime)));
    }
    hangUp();
    connect();
  }
  if (mustPoll()) poll();
  lookAtNews();
  showStatus();
};

const freeze = () => {
  frozenAt = frozenAt ? null : new Date();
  const button = document.getElementById("af-freeze");
  button.setAttribute("aria-pressed", String(Boolean(frozenAt)));
  put(button, frozenAt ? facts.unfreeze : facts.freeze);
  if (!frozenAt) {
    if (socket?.isWhole) tell({ want: "whole" });
    else poll();
  }
  showStatus();
};

const start = () => {
  document.getElementById("af-freeze").addEventListener("click", freeze);
  document.getElementById("af-news").addEventListener("click", showNews);
  document.addEventListener("visibilitychange", () => {
    tell({ hidden: document.hidden });
    if (!document.hidden) look();
  });
  addEventListener("pagehide", hangUp);
  addEventListener("pageshow", ({ persisted }) => persisted && facts.asgi && connect());
  noteInTitle(facts.note);
  showStatus();
  if (facts.asgi) connect();
  setInterval(look, 1000);
};

if (root && place) start();
