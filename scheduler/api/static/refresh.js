// Looks again every few seconds and puts the new content in place, so that the page neither flickers nor scrolls. Without scripts the page
// stays as it was loaded.
"use strict";

// Whether somebody is filling in a form, which a new content would empty.
const busy = () =>
  [...document.querySelectorAll("main form input")].some((f) =>
    f === document.activeElement || (f.type === "radio" ? f.checked !== f.defaultChecked : f.value !== f.defaultValue));

setInterval(async () => {
  if (document.hidden || busy() || !document.getSelection().isCollapsed) return;
  try {
    const answer = await fetch(location.href, { redirect: "error" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(fresh.querySelector("main"));
  } catch {
    // The server is away; what is shown stays.
  }
}, 4000);
