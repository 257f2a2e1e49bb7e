// What somebody is marking, to copy it, is not replaced under their hands. (Focus is kept by htmx,
// for elements that have an id.)
document.addEventListener("htmx:beforeRequest", (event) => {
  const selection = document.getSelection();
  const isMarking = selection && !selection.isCollapsed && event.target.contains(selection.anchorNode);
  if (isMarking) event.preventDefault();
});

// Old numbers must not pass for new ones: while no answer comes, the page says so.
for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(name, () => { document.getElementById("stale").hidden = false; });
}

// The page to sign in, after the session has ended, is shown as a whole.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.status !== 200 || xhr.responseText.includes('id="live"')) return;
  event.detail.shouldSwap = false;
  location.reload();
});
