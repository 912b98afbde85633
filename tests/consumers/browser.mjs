// Open the example page in Chromium, embed the texts on standard input in it, take a picture of it.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [executablePath, address, picture] = process.argv.slice(2);
const texts = JSON.parse(readFileSync(0, "utf-8"));
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1000, height: 760 } });
const outside = [];
page.on("request", (request) => {
  if (!request.url().startsWith(address) && !/^(blob|data):/.test(request.url())) outside.push(request.url());
});
page.on("pageerror", (error) => console.error(String(error)));
page.on("console", (message) => console.error(message.text()));
await page.goto(address);
await page.waitForFunction(() => window.embed, null, { timeout: 120_000 });
await page.screenshot({ path: picture });
const cells = await page.$$eval("tbody tr", (rows) => rows.map((row) => [...row.cells].slice(1).map((c) => Number(c.textContent))));
const vectors = [];
for (const text of texts) vectors.push(await page.evaluate(async (text) => Array.from(await window.embed(text)), text));
await browser.close();
console.log(JSON.stringify({ vectors, cells, outside }));
