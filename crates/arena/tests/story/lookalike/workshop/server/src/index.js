require("dotenv").config();
const fs = require("fs");
const path = require("path");
const cors = require("cors");
const express = require("express");
const { connect, database } = require("./utils/database");

const app = express();
app.use(cors());
app.use(express.json());

app.get("/health", async (_, response) => {
  await database().command({ ping: 1 });
  response.json({ status: "ok", database: process.env.DATABASE_NAME });
});
app.get("/api/results/whoami", (_, response) => response.json({ name: process.env.DATABASE_NAME }));

const listings = express.Router();
listings.get("/", require("./lab/crud-1.lab").crud1);
listings.get("/:id", require("./lab/crud-2.lab").crud2);
app.use("/api/listingsAndReviews", listings);

const port = process.env.PORT || 5000;
connect().then(() => {
  app.listen(port, () => {
    console.log(`Server on port ${port}, ${process.env.MONGODB_URI.split("?")[0].split("@")[1]}`);
    const folder = process.env.SIGNAL_FILE_PATH || path.join(__dirname, "../signal");
    fs.mkdirSync(folder, { recursive: true });
    const signal = { event: "restart", timestamp: new Date().toISOString(), port, pid: process.pid };
    fs.writeFileSync(path.join(folder, "server_restart_signal.txt"), JSON.stringify(signal));
  });
});
