fetch(BACKEND_URL + "/api/results/whoami")
  .then((response) => response.json())
  .then(({ name }) => {
    document.querySelector("#rows").textContent = "Homes of " + name;
  });
