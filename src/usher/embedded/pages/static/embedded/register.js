// Sends the form. If the provider record skips the form, sends it without a click, as the platform's page does.
(() => {
  const form = document.getElementById("registration");
  if (!form) return;
  const problems = form.querySelector(".errors");
  const messages = (answer) =>
    Object.entries(answer).flatMap(([field, list]) =>
      Array.isArray(list) && field !== "username_suggestions" ? list.map((message) => message.user_message) : []);
  const send = async () => {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), credentials: "same-origin" });
    const body = await answer.json().catch(() => ({}));
    if (answer.ok) window.location.assign(form.dataset.finish || body.redirect_url);
    else problems.textContent = messages(body).join(" ") || `The LMS refused (${answer.status}).`;
  };
  form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
  if (form.dataset.submit) send();
})();
(() => {
  const form = document.getElementById("signin");
  if (!form) return;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), credentials: "same-origin" });
    const body = await answer.json().catch(() => ({}));
    if (answer.ok) window.location.assign(form.dataset.finish || body.redirect_url);
    else form.querySelector(".errors").textContent = body.value || `The LMS refused (${answer.status}).`;
  });
})();
