// Does not refresh the page while text in it is selected, so that people can copy the text. (htmx
// itself keeps the focus on elements that have an id.)
document.addEventListener("htmx:beforeRequest", (event) => {
  const selection = document.getSelection();
  const isMarking = selection && !selection.isCollapsed && event.target.contains(selection.anchorNode);
  if (isMarking) event.preventDefault();
});

// Shows on the page that its numbers are old, if the server does not answer.
for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(name, () => { document.getElementById("stale").hidden = false; });
}

// Loads the whole page again if the answer is not a part of it, such as the sign-in page after the
// session has ended.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.status !== 200 || xhr.responseText.includes('id="live"')) return;
  event.detail.shouldSwap = false;
  location.reload();
});
