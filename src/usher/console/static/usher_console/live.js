// What somebody is marking, to copy it, is not replaced under their hands. (Focus is kept by htmx,
// for elements that have an id.)
document.addEventListener("htmx:beforeRequest", (event) => {
  const selection = document.getSelection();
  const isMarking = selection && !selection.isCollapsed && event.target.contains(selection.anchorNode);
  if (isMarking) event.preventDefault();
});
