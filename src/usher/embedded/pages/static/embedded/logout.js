// Leave the page when every frame has loaded, or after three seconds.
(() => {
  const target = document.getElementById("logout").dataset.target;
  const frames = [...document.querySelectorAll("iframe")];
  const leave = () => window.location.replace(target);
  Promise.race([
    Promise.all(frames.map((frame) => new Promise((done) => frame.addEventListener("load", done, { once: true })))),
    new Promise((done) => setTimeout(done, frames.length ? 3000 : 0)),
  ]).then(leave);
})();
