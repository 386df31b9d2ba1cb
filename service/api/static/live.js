// Keeps the page true: [data-live] parts are taken anew from the server's rendering of this page, [data-src] parts from
// their own address. Server-sent events say when; a slow clock covers what makes no event, a faster one a lost stream.
"use strict";
(() => {
  const LIVE_MS = 4000;
  const POLL_MS = 2000;
  const SETTLE_MS = 250;
  const link = document.getElementById("link");
  let isStreaming = false;
  let isBusy = false;
  let isWanted = false;
  let lastPart = 0;
  let timer;

  const say = (mode, text) => {
    link.dataset.mode = mode;
    link.textContent = text;
  };

  const isInUse = (part) =>
    part.querySelector("video, details[open]") !== null || part.contains(document.querySelector("dialog[open]"));

  const replace = (fresh) => {
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (!other || other.innerHTML === part.innerHTML || isInUse(part)) continue;
      const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
      part.replaceChildren(...other.childNodes);
      if (focused) document.getElementById(focused)?.focus();
    }
    document.dispatchEvent(new Event("sluice:refreshed"));
  };

  const get = async (url) => {
    const answer = await fetch(url, { headers: { Accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === "/login") {
      location.assign(answer.url);
      return null;
    }
    // An error page has none of the parts, so that what was last known stays on the screen.
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  };

  const loadParts = async () => {
    lastPart = Date.now();
    for (const part of document.querySelectorAll("[data-src]")) {
      if (isInUse(part)) continue;
      const fresh = await get(part.dataset.src);
      if (fresh && fresh.body.innerHTML.trim() !== part.innerHTML.trim()) part.replaceChildren(...fresh.body.childNodes);
    }
  };

  const refresh = async () => {
    clearTimeout(timer);
    if (isBusy) {
      isWanted = true;
      return;
    }
    isBusy = true;
    isWanted = false;
    try {
      const fresh = document.querySelector("[data-live]") ? await get(location.href) : null;
      if (fresh) replace(fresh);
      if (!isStreaming && Date.now() - lastPart > 5 * POLL_MS) await loadParts();
      say(isStreaming ? "live" : "polling", isStreaming ? "Live" : "Polling");
    } catch {
      say("lost", "No connection");
    }
    isBusy = false;
    soon(isWanted ? SETTLE_MS : isStreaming ? LIVE_MS : POLL_MS);
  };

  const soon = (delay) => {
    clearTimeout(timer);
    timer = setTimeout(() => (document.hidden ? soon(LIVE_MS) : refresh()), delay);
  };

  const listen = () => {
    const stream = new EventSource("/api/v1/events");
    stream.onopen = () => {
      isStreaming = true;
      soon(0);
    };
    stream.onerror = () => {
      isStreaming = false;
      // A stream that was refused is not tried again by itself.
      if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 10 * POLL_MS);
      soon(SETTLE_MS);
    };
    for (const kind of ["state", "failure", "retry", "replay_failed", "position", "breaker"]) {
      stream.addEventListener(kind, () => soon(SETTLE_MS));
    }
    for (const kind of ["commit", "replay"]) {
      stream.addEventListener(kind, () => {
        loadParts().catch(() => {});
        soon(SETTLE_MS);
      });
    }
    // A page that is left gives its connection back at once.
    addEventListener("pagehide", () => stream.close());
  };

  document.addEventListener("sluice:changed", () => soon(0));
  document.addEventListener("visibilitychange", () => document.hidden || soon(0));
  addEventListener("pageshow", (event) => event.persisted && listen());
  loadParts().catch(() => {});
  listen();
})();
