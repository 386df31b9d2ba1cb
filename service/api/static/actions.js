// What changes something: asks for a reason, sends it with the session's token, and says what came of it.
"use strict";
(() => {
  const dialog = document.getElementById("ask");
  const reason = document.getElementById("ask-reason");
  const ttl = document.getElementById("ask-ttl");
  const token = document.querySelector('meta[name="csrf-token"]').content;
  let asked = null;

  const toast = (text, isBad) => {
    const item = document.createElement("p");
    item.className = isBad ? "toast bad" : "toast";
    item.textContent = text;
    document.getElementById("toasts").append(item);
    setTimeout(() => item.remove(), isBad ? 12000 : 6000);
  };

  const send = async (method, url, body) => {
    const headers = { "X-CSRF-Token": token };
    if (body) headers["Content-Type"] = "application/json";
    const answer = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(`${said.title || "It did not work"}: ${said.detail || `status ${answer.status}`}`);
    return said;
  };

  const ask = (button) => {
    asked = { ...button.dataset };
    document.getElementById("ask-title").textContent = asked.title;
    document.getElementById("ask-text").textContent = asked.text;
    document.getElementById("ask-go").textContent = asked.go;
    document.getElementById("ask-ttl-row").hidden = asked.ttl === undefined;
    reason.value = "";
    ttl.value = "";
    dialog.returnValue = "";
    dialog.showModal();
    reason.focus();
  };

  const go = async () => {
    const body = asked.body ? JSON.parse(asked.body) : {};
    if (reason.value.trim()) body.reason = reason.value.trim();
    if (asked.ttl !== undefined && ttl.value) body.ttl_s = Number(ttl.value);
    try {
      const said = await send(asked.method, asked.url, body);
      toast(said.num_of_other_shards ? "Another process does the shard of this video: replay it on that one's page."
        : said.num_accepted === 0 ? "There was nothing to replay: it may have been replayed already." : asked.done);
    } catch (error) {
      toast(error.message, true);
    }
    document.dispatchEvent(new Event("sluice:changed"));
  };

  const audit = async (button) => {
    const place = button.closest("section").querySelector(".audit");
    button.disabled = true;
    place.textContent = "Comparing…";
    try {
      const said = await send("GET", button.dataset.audit);
      const verdict = document.createElement("p");
      verdict.className = said.is_clean ? "notice good" : "notice bad";
      verdict.textContent = said.is_clean
        ? `Every row is accounted for once: ${said.rows} rows, ${said.ledger_rows} in the ledger, ${said.clips} clips, ${said.pending} waiting.`
        : `${said.missing} rows missing, ${said.mismatched} told wrongly, ${said.duplicated} twice; ${said.clips_missing} clips missing, ${said.clips_duplicated} twice, ${said.unaccounted} unaccounted, ${said.clips_broken} broken; ${said.files_missing} files missing, ${said.files_damaged} of another size.`;
      const list = document.createElement("ul");
      for (const detail of said.details) list.append(Object.assign(document.createElement("li"), { textContent: detail }));
      place.replaceChildren(verdict, list);
    } catch (error) {
      place.textContent = error.message;
    }
    button.disabled = false;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.ask !== undefined) ask(button);
    else if (button.dataset.audit) audit(button);
    else if (button.dataset.back !== undefined) history.back();
    else if (button.id === "ask-cancel") dialog.close("");
  });
  dialog.querySelector("form").addEventListener("submit", go);
})();
