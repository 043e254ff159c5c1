"use strict";
// Requests to this server, and signs that the page is still there.

// Sends a request and returns its JSON; the server's own words are the error, its `status` that of
// the answer, and undefined where there was none.
async function ask(method, address, body) {
  const options = {method, headers: {}};
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer. Is it still running, and this device connected?");
  }
  const text = answer.status === 204 ? "" : await answer.text();
  let values = null;
  try { values = text ? JSON.parse(text) : null; } catch { /* no JSON: the text is the message */ }
  if (!answer.ok) {
    const words = values?.error ?? (text || `Error ${answer.status}`);
    throw Object.assign(new Error(words), {status: answer.status});
  }
  return values;
}

const PING_MILLISECONDS = 30_000;
setInterval(() => ask("POST", "/api/session/ping").catch(() => {}), PING_MILLISECONDS);
addEventListener("pagehide", () => navigator.sendBeacon("/api/session/leave"));
addEventListener("pageshow", (event) => {
  if (event.persisted) ask("POST", "/api/session/ping").catch(() => {});
});
