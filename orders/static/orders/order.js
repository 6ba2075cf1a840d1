// Looks at the order page again while something is still on its way. The page works without it.
(() => {
  const PAUSE = 3000;
  const MOST = 200;
  let looks = 0;

  async function look() {
    const old = document.getElementById("progress");
    if (!old || !("pending" in old.dataset) || looks++ >= MOST) return;
    if (!document.hidden) await refresh(old).catch(() => {});
    setTimeout(look, PAUSE);
  }

  async function refresh(old) {
    const response = await fetch(location.href, { cache: "no-store" });
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = page.getElementById("progress");
    if (!fresh || fresh.textContent === old.textContent) return;
    // The region itself stays, so that screen readers announce what changed in it.
    old.replaceChildren(...fresh.childNodes);
    if (!("pending" in fresh.dataset)) delete old.dataset.pending;
  }

  setTimeout(look, PAUSE);
})();
