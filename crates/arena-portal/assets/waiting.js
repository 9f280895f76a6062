// The waiting list: asks for the place now and then, and goes on when there is a seat.
const waiting = document.getElementById("waiting");
const place = document.getElementById("place");
const path = `/waiting/${waiting.dataset.token}`;

setInterval(async () => {
  const answer = await fetch(`${path}/place`).catch(() => null);
  if (answer?.status === 404) { place.textContent = waiting.dataset.gone; return; }
  if (!answer?.ok) return;
  const now = (await answer.json()).place;
  if (now === null) return location.assign(path);
  const text = waiting.dataset.place.replace("{}", now);
  if (place.textContent !== text) place.textContent = text;
}, 3000);
