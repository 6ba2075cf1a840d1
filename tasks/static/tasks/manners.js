/* Times in the viewer's zone, what is said aloud, keys, ticks and copies. The pages work without it. */
(() => {
  "use strict";

  const root = document.getElementById("af-root");
  if (!root) return;
  root.classList.add("af-scripted");

  // Times. The server writes them in full with their zone; here they become the viewer's own.

  // In the page's language, and in the viewer's own kind of it: a British reader has 24 hours.
  const spoken = document.documentElement.lang || "en";
  const ownKind = navigator.languages.find((one) => one.split("-")[0] === spoken.split("-")[0]);
  const language = ownKind || spoken;
  root.dataset.afLanguage = language; // for the scripts after this one
  const written = (options) => new Intl.DateTimeFormat(language, options);
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  const exact = written({ dateStyle: "medium", timeStyle: "long" });
  const today = written(clock);
  const thisYear = written({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  const longAgo = written({ dateStyle: "medium", timeStyle: "short" });
  const distance = new Intl.RelativeTimeFormat(language, { style: "short", numeric: "always" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  // The server's clock decides how old something is: the viewer's may be wrong. Of the two that
  // count on from there one stands still while a computer sleeps, and one may be set back.
  const clocks = () => [Date.now(), performance.now()];
  let known = { moment: Date.now(), since: clocks() };
  const hearNow = (moment) => {
    if (!Number.isNaN(moment)) known = { moment, since: clocks() };
  };
  const serverNow = () => known.moment + Math.max(...clocks().map((one, which) => one - known.since[which]));
  hearNow(Number(root.dataset.afNow) * 1000);

  const age = (moment, now) => {
    const seconds = Math.round((moment - now) / 1000);
    const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) || ["second", 1];
    return distance.format(Math.trunc(seconds / size), unit);
  };

  const absolute = (moment, now) => {
    const [then, here] = [new Date(moment), new Date(now)];
    if (then.toDateString() === here.toDateString()) return today.format(then);
    return (then.getFullYear() === here.getFullYear() ? thisYear : longAgo).format(then);
  };

  const put = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  const showTime = (element, now) => {
    const moment = Date.parse(element.dateTime);
    if (Number.isNaN(moment)) return;
    const title = exact.format(moment);
    if (element.title !== title) element.title = title;
    const tooOld = Math.abs(now - moment) >= 2 * 86400e3;
    if ("afAge" in element.dataset && !tooOld) put(element, age(moment, now));
    else if (!("afWords" in element.dataset)) put(element, absolute(moment, now));
  };

  // A time that is typed is the viewer's own too: the address says which moment that is.
  const zone = written({ timeZoneName: "short" }).formatToParts().find(({ type }) => type === "timeZoneName").value;
  for (const place of root.querySelectorAll("[data-af-zone]")) put(place, zone);
  root.addEventListener("formdata", ({ target, formData }) => {
    for (const field of target.querySelectorAll("[data-af-moment]")) {
      formData.set(field.name, new Date(field.value).toISOString());
    }
  });

  const showTimes = (selector, where = root) => {
    const now = serverNow();
    for (const element of where.querySelectorAll(selector)) showTime(element, now);
  };

  // Ticks

  const ticks = () => [...root.querySelectorAll('input[name="ticked"]')];

  const countTicks = () => {
    const all = ticks();
    const ticked = all.filter((tick) => tick.checked).length;
    root.classList.toggle("af-has-ticks", ticked > 0);
    for (const place of root.querySelectorAll("[data-af-ticks]")) put(place, String(ticked));
    for (const every of root.querySelectorAll("[data-af-tick-all]")) {
      every.checked = ticked > 0 && ticked === all.length;
      every.indeterminate = ticked > 0 && ticked < all.length;
    }
  };

  let lastTicked = "";
  const tickUpTo = (tick) => {
    const all = ticks();
    const [from, to] = [all.findIndex((one) => one.id === lastTicked), all.indexOf(tick)].sort((a, b) => a - b);
    if (from >= 0) for (const one of all.slice(from, to)) one.checked = tick.checked;
  };

  root.addEventListener("click", ({ target, shiftKey }) => {
    if (!target.matches('input[name="ticked"]')) return;
    if (shiftKey) tickUpTo(target);
    lastTicked = target.id;
    countTicks();
  });

  root.addEventListener("change", ({ target }) => {
    if ("afTickAll" in target.dataset) for (const tick of ticks()) tick.checked = target.checked;
    if ("afTickAll" in target.dataset || target.name === "ticked") countTicks();
  });

  // What is told to the ear: seldom, and of each kind the newest. Whoever has something to tell
  // sends "af:say"; live updates must not silence what the reader has just done.

  const SAY_EVERY = 5000;
  const toSay = new Map();
  let saidAt = -SAY_EVERY;
  let isGoingTo = false;
  const speak = () => {
    const wait = saidAt + SAY_EVERY - performance.now();
    if (wait > 0) {
      setTimeout(speak, wait);
      return;
    }
    saidAt = performance.now();
    isGoingTo = false;
    put(document.getElementById("af-say"), [...toSay.values()].join(". "));
    toSay.clear();
  };
  const say = (kind, text) => {
    toSay.set(kind, text);
    if (isGoingTo) return;
    isGoingTo = true;
    setTimeout(speak);
  };
  root.addEventListener("af:say", ({ detail }) => say("live", detail.text));

  // Copy

  const copyOldWay = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "af-hidden";
    root.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copyOldWay(text); // a page that did not come over https has no clipboard
    }
  };

  const copyFrom = async (button) => {
    const source = document.getElementById(button.dataset.afCopy);
    // The address of the page comes first; elsewhere it needs its host.
    const text = source.textContent.trim().replace(/^\/\S*$/m, (path) => location.origin + path);
    if (!(await copy(text))) return;
    button.dataset.afLabel ||= button.textContent; // pressed again it says what was done
    const label = button.dataset.afLabel;
    const done = button.dataset.afDone || label;
    put(button, done);
    say("copy", done);
    button.focus();
    setTimeout(() => put(button, label), 2000);
  };

  root.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-af-copy]");
    if (button) copyFrom(button);
    if (target.closest("[data-af-help]")) document.getElementById("af-keys").showModal();
  });

  // Enter in a field presses the button beside it; the form alone could not tell which is meant.

  root.addEventListener("keydown", (event) => {
    const field = event.target;
    if (event.key !== "Enter" || event.isComposing || field.tagName !== "INPUT") return;
    if (field.getAttribute("form") !== "af-form" || field.type === "checkbox") return;
    event.preventDefault();
    const near = field.closest(".af-ask") || field.closest("details, .af-row, .af-toolbar");
    near?.querySelector('button[form="af-form"][formaction]')?.click();
  });

  // Keys

  const rows = () => [...root.querySelectorAll(".af-row")].filter((row) => row.getClientRects().length);
  const rowHere = () => document.activeElement?.closest(".af-row") || null;
  let lastRow = "";

  const move = (step) => {
    const all = rows();
    const known = rowHere() || document.getElementById(lastRow);
    const index = all.indexOf(known);
    const next = all[index < 0 ? (step > 0 ? 0 : all.length - 1) : index + step];
    const place = next?.querySelector("a[href]") || next?.querySelector("button, summary, input");
    if (!place) return;
    lastRow = next.id;
    place.focus();
    next.scrollIntoView({ block: "nearest" });
  };

  const retry = () => {
    const place = rowHere() || document.getElementById("af-task-head");
    const button = place?.querySelector('button[formaction$="/retry/"]');
    if (!button) return;
    const fold = button.closest("details:not([open])");
    if (fold) {
      fold.open = true;
      fold.querySelector("input, textarea, button")?.focus();
    } else button.click();
  };

  const search = () => {
    const box = document.getElementById("af-search");
    box?.focus();
    box?.select();
  };

  const keys = {
    "/": search,
    j: () => move(1),
    k: () => move(-1),
    x: () => rowHere()?.querySelector('input[name="ticked"]')?.click(),
    r: retry,
    f: () => document.getElementById("af-freeze")?.click(),
    "?": () => document.getElementById("af-keys").showModal(),
  };

  const isTyping = (element) =>
    element.isContentEditable ||
    element.matches('textarea, select, input:not([type="checkbox"], [type="radio"], [type="button"], [type="submit"])');

  // The key of the same place where the layout writes another script; Caps Lock makes no difference.
  const meant = ({ key, code, shiftKey }) => {
    if (shiftKey) return key;
    const isForeign = /^\p{L}$/u.test(key) && !/\p{Script=Latin}/u.test(key);
    return (isForeign ? code.replace("Key", "") : key).toLowerCase();
  };

  document.addEventListener("keydown", (event) => {
    if (!root.isConnected || event.defaultPrevented) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]") || isTyping(event.composedPath()[0])) {
      if (event.key === "Escape" && event.target.id === "af-search") event.target.blur();
      return;
    }
    const key = meant(event);
    if (!Object.hasOwn(keys, key)) return;
    event.preventDefault();
    // A key held down moves on and on, but presses a button once.
    if (!event.repeat || key === "j" || key === "k") keys[key]();
  });

  // At the start, before and after every live update, and as time passes

  showTimes("time[datetime]");
  countTicks();
  root.addEventListener("af:incoming", ({ detail }) => {
    hearNow(Date.parse(detail.now));
    showTimes("time[datetime]", detail.fragment);
  });
  root.addEventListener("af:updated", () => {
    showTimes("time[datetime]");
    countTicks();
  });
  window.addEventListener("pageshow", countTicks);
  setInterval(() => {
    if (!document.hidden) showTimes("time[data-af-age]");
  }, 1000);
})();
