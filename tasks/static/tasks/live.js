/* Keeps a page up to date. The page works without it: buttons and links need no socket. */
(() => {
  "use strict";

  const root = document.getElementById("af-root");
  const place = document.getElementById("af-live");
  const { htmx } = document.getElementById("af-htmx") ?? {};
  if (!root || !place || !htmx) return;
  const facts = place.dataset;

  // Of htmx only the morph is used: it must not touch anything by itself, here or in the host's page.

  let morph;
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
  const CLOCK_SET_BACK = 30000; // no answer comes as late as that

  const SIGNED_OUT = 4401;
  const NOT_ALLOWED = 4403;
  const GONE = 4404;
  const EXPIRED = 4408;
  const ENDS = { [NOT_ALLOWED]: "notAllowed", [GONE]: "gone" };

  const now = () => performance.now();
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const put = (element, text) => {
    if (element && element.textContent !== text) element.textContent = text;
  };
  const clock = (moment) => moment.toLocaleTimeString(root.dataset.afLanguage);

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

  const replaceAlone = (row) => {
    const alone = document.createDocumentFragment();
    alone.append(row);
    replace(row.id, alone);
  };

  const replaceRows = (fragment) => {
    const part = rowsPart();
    if (letThemIn || !isReading(part)) {
      letThemIn = false;
      replace(facts.rows, fragment);
    } else rowsOf(fragment.firstElementChild).forEach(replaceAlone);
  };

  // Rows of other parts may change places too, but not while somebody is at one of them.

  const waiting = new Map(); // what came of such parts last: their ids, and which rows are new and gone
  const ROW = "tr[id], li[id]";
  const keyedRows = (part) => [...part.querySelectorAll(ROW)].filter((row) => !row.parentElement.closest(ROW));

  const isAtRow = (part) =>
    keyedRows(part).some(
      (row) =>
        row.contains(document.activeElement) ||
        row.querySelector("details[open]") !== null ||
        (matchMedia("(hover: hover)").matches && row.matches(":hover")) ||
        hasSelection(row),
    );

  const replacePart = (id, html, moment) => {
    const part = document.getElementById(id);
    const fragment = elementOf(html, moment);
    waiting.delete(id);
    const [shown, coming] = [part, fragment].map((one) => (one ? keyedRows(one) : []));
    const [were, are] = [shown, coming].map((rows) => rows.map((row) => row.id));
    const stay = were.every((row, place) => row === are[place]);
    if (stay || !isAtRow(part)) {
      replace(id, fragment);
      return;
    }
    const gone = shown.filter((row) => !are.includes(row.id));
    waiting.set(id, { html, moment, fresh: are.filter((row) => !were.includes(row)).length, gone: gone.length });
    for (const row of gone) row.classList.add("af-gone");
    coming.filter((row) => were.includes(row.id)).forEach(replaceAlone);
  };

  const letWaitingIn = (all = false) => {
    for (const [id, { html, moment }] of [...waiting]) {
      if (!all && isAtRow(document.getElementById(id))) continue;
      waiting.delete(id);
      replace(id, elementOf(html, moment));
    }
  };

  const apply = (message) => {
    newest = message.now;
    for (const { id, html } of message.parts ?? []) {
      if (id === facts.rows) replaceRows(elementOf(html, message.now));
      else replacePart(id, html, message.now);
    }
    for (const { id, html } of message.rows ?? []) replace(id, elementOf(html, message.now));
    for (const id of message.lost ?? []) document.getElementById(`af-task-${id}`)?.classList.add("af-gone");
    if (message.here) here = message.here;
    if ("note" in message) noteInTitle(message.note);
    sayTotals();
    root.dispatchEvent(new CustomEvent("af:updated", { detail: { now: message.now } }));
    lookAtNews();
  };

  // Totals, as they stand at the end of a burst.

  const totals = () =>
    [...root.querySelectorAll("[data-af-total]")].map((one) => one.dataset.afTotal).filter(Boolean).join(", ");
  let saidTotals = totals();
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
    const button = document.getElementById("af-news");
    if (!button) return;
    const news = frozenAt ? [] : [newsOfList(), ...waiting.values()];
    const [fresh, gone] = ["fresh", "gone"].map((kind) => news.reduce((sum, one) => sum + one[kind], 0));
    const words = [counted(fresh, facts.newOne, facts.newMany), counted(gone, facts.goneOne, facts.goneMany)];
    const text = words.filter(Boolean).join(", ");
    if (text && button.textContent !== `${text} – ${facts.show}`) {
      put(button, `${text} – ${facts.show}`);
      say(text);
    }
    button.hidden = !text;
  };

  const newsOfList = () => {
    const part = rowsPart();
    if (!part || !here) return { fresh: 0, gone: 0 };
    const shown = rowsOf(part).map(idOf);
    tellShown(shown);
    if (!isReading(part)) {
      if (shown.join() !== here.join()) wantRows();
      return { fresh: 0, gone: 0 };
    }
    const fresh = here.filter((id) => !shown.includes(id)).length;
    return { fresh, gone: rowsOf(part).filter((row) => row.classList.contains("af-gone")).length };
  };

  const wantRows = () => {
    if (socket?.isWhole) tell({ want: "rows" });
  };

  const showNews = () => {
    document.getElementById("af-news").hidden = true;
    letWaitingIn(true);
    if (!rowsPart()) return;
    letThemIn = true;
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
    if (!root.isConnected) return;
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
    else connectLater(now() - attemptAt);
  };

  // Whoever has waited long for an answer need not wait long to ask again.
  const connectLater = async (waited = 0) => {
    await sleep(Math.max(FIRST_PAUSE, pause - waited) * (0.5 + Math.random() / 2));
    pause = Math.min(LONGEST_PAUSE, pause * 2);
    connect();
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

  const ended = (code) => {
    if (socket?.isWhole) wholeAt = now();
    socket = null;
    showStatus();
    if (code in ENDS) return stop(ENDS[code]);
    // Perhaps it is only this session's key that is new: whoever is signed in gets a ticket.
    if (code === SIGNED_OUT || code === EXPIRED) ticketAt = -Infinity;
    connectLater();
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
      else {
        const said = await response.json();
        if (response.ok) return said;
        if (said.end in ENDS) stop(ENDS[said.end]);
      }
    } catch {
      // No answer, none in time, or one that is not ours, as proxies give: it is asked again.
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
      if (!frozenAt && !isPast(answer)) apply(answer);
    }
    showStatus();
  };

  // A page that had a socket meanwhile may know more; but the clock may also have been set back.
  const isPast = (answer) => {
    const back = Date.parse(newest) - Date.parse(answer.now);
    return back > 0 && back < CLOCK_SET_BACK;
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
    if (!root.isConnected) {
      // A script of the host's has put another page in the place of this one.
      stopped = "gone";
      hangUp();
      return;
    }
    if (facts.asgi && socket && now() - Math.max(heardAt, attemptAt) > SILENCE) {
      if (socket.isWhole) {
        wholeAt = heardAt;
        say(facts.off.replace("{time}", clock(heardTime)));
      }
      hangUp();
      connect();
    }
    if (mustPoll()) poll();
    if (!frozenAt) letWaitingIn();
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

  start();
})();
