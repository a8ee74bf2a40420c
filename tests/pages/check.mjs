// Opens pages in a browser as their readers do: several widths, light and dark, and printed.
// Usage: node check.mjs BROWSER FOLDER PAGE...; writes a picture of each to FOLDER.

import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [browserPath, folder, ...pages] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const views = [500, 1000, 1400].flatMap((width) => [
  { width, scheme: "light" },
  { width, scheme: "dark" },
]);
const faults = [];

// What is wider than its place: cut off, or the reason for a scroll bar of the whole page.
const clipped = () => {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth + 1) {
    found.push(`the page is ${root.scrollWidth} px wide in ${root.clientWidth}`);
  }
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest(".scroll, .skip, details:not([open])")) continue;
    const box = element.getBoundingClientRect();
    if (box.width && (box.right > root.clientWidth + 1 || box.left < -1)) {
      found.push(`${element.tagName} reaches to ${Math.round(box.right)} px`);
    }
  }
  for (const image of document.images) {
    if (!image.complete || !image.naturalWidth) found.push(`no picture: ${image.alt}`);
  }
  return found.slice(0, 5);
};

const browser = await puppeteer.launch({
  executablePath: browserPath,
  args: ["--no-sandbox", "--disable-gpu"],
});
for (const path of pages) {
  const page = await browser.newPage();
  const say = (what) => faults.push(`${basename(path)}: ${what}`);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) say(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => say(`error: ${error.message}`));
  page.on("request", (request) => {
    if (!/^(file|data):/.test(request.url())) say(`asks for ${request.url()}`);
  });
  for (const { width, scheme } of views) {
    await page.setViewport({ width, height: 900 });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await page.goto(pathToFileURL(path).href, { waitUntil: "load" });
    for (const fault of await page.evaluate(clipped)) say(`${width} px: ${fault}`);
    await page.evaluate(axe);
    const result = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
    for (const { id, nodes } of result.violations) {
      say(`${width} px, ${scheme}: ${id}: ${nodes[0].html.slice(0, 200)}`);
    }
    const picture = join(folder, `${basename(path, ".html")}-${width}-${scheme}.png`);
    await page.screenshot({ path: picture, fullPage: true });
  }
  await page.emulateMediaType("print");
  await page.setViewport({ width: 718, height: 1000 }); // A4 less its margins
  for (const fault of await page.evaluate(clipped)) say(`printed: ${fault}`);
  const open = await page.evaluate(() =>
    [...document.querySelectorAll("details table")].every((t) => t.getBoundingClientRect().height),
  );
  if (!open) say("printed: the appendix is closed");
  await page.pdf({ path: join(folder, `${basename(path, ".html")}.pdf`), format: "A4" });
  await page.close();
}
await browser.close();
console.log(faults.join("\n"));
process.exit(faults.length ? 1 : 0);
