// Opens pages of the documentation as files, as somebody without a network does.
// Usage: node docs.mjs BROWSER FOLDER ROOT PAGE...; writes a picture of each to FOLDER.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [browserPath, folder, root, ...pages] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
// Together they show both widths and both schemes, at half the time of all four.
const views = [
  { width: 400, scheme: "light" },
  { width: 1400, scheme: "dark" },
];
// Roles of references are what docutils writes. Style sheets are not fetched again, which a browser
// does not do for files.
const options = {
  runOnly: { type: "tag", values: ["wcag2a", "wcag2aa"] },
  rules: {
    "aria-deprecated-role": { enabled: false },
    "aria-required-children": { enabled: false },
  },
  resultTypes: ["violations"],
  preload: false,
};
let found = 0;
const fault = (text) => {
  found += 1;
  console.log(text);
};

// What is wider than its place: cut off, or the reason for a scroll bar of the whole page. What is in
// a box with a scroll bar of its own can be seen.
const clipped = () => {
  const found = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth + 1) {
    found.push(`the page is ${page.scrollWidth} px wide in ${page.clientWidth}`);
  }
  const scrolls = (element) => {
    for (let up = element.parentElement; up; up = up.parentElement) {
      if (["auto", "scroll"].includes(getComputedStyle(up).overflowX)) return true;
    }
    return false;
  };
  for (const element of document.querySelectorAll("main *, header *")) {
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height || !(box.right > page.clientWidth + 1 || box.left < -1)) continue;
    if (element.closest(".sr-only, .visually-hidden, .pst-async-banner-revealer")) continue;
    if (!scrolls(element)) {
      found.push(`${element.tagName}.${element.className} reaches to ${Math.round(box.right)} px`);
    }
  }
  for (const image of document.images) {
    if (!image.complete || !image.naturalWidth) found.push(`no picture: ${image.src}`);
    // The title of an example stands beside its picture, which says nothing else.
    const isThumbnail = image.closest(".sphx-glr-thumbcontainer");
    if (!image.alt.trim() && !isThumbnail) found.push(`no text for the picture ${image.src}`);
  }
  return found.slice(0, 5);
};

const browser = await puppeteer.launch({
  executablePath: browserPath,
  args: ["--no-sandbox", "--disable-gpu"],
});

const listened = async (name) => {
  const page = await browser.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) {
      fault(`${name}: console: ${message.text()}`);
    }
  });
  page.on("pageerror", (error) => fault(`${name}: error: ${error.message}`));
  page.on("request", (request) => {
    if (!/^(file|data|blob):/.test(request.url())) {
      fault(`${name}: asks for ${request.url()}`);
    }
  });
  return page;
};

for (const path of pages) {
  const name = relative(root, path);
  const page = await listened(name);
  for (const { width, scheme } of views) {
    const say = (what) => fault(`${name}: ${width} px, ${scheme}: ${what}`);
    await page.setViewport({ width, height: 900 });
    await page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value: scheme },
      { name: "prefers-reduced-motion", value: "reduce" },
    ]);
    await page.goto(pathToFileURL(path).href, { waitUntil: "load" });
    for (const what of await page.evaluate(clipped)) say(what);
    await page.evaluate(axe);
    const result = await page.evaluate(
      (options) => globalThis.axe.run(options),
      options,
    );
    for (const { id, nodes } of result.violations) {
      say(`${id} (${nodes.length}): ${nodes[0].html.slice(0, 200)}`);
    }
    const picture = name.replaceAll("/", "-").replace(".html", `-${width}.png`);
    await page.screenshot({ path: join(folder, picture) });
  }
  await page.close();
}

// Search has to find the class whose name is typed, and a word of a page, without a server.
for (const [query, wanted] of [
  ["LabelFreeAttributor", "sklexplain.LabelFreeAttributor.html"],
  ["skops", "saving_and_sharing.html"],
]) {
  const page = await listened("search.html");
  await page.goto(`${pathToFileURL(join(root, "search.html")).href}?q=${query}`);
  try {
    const link = `#search-results a[href*="${wanted}"]`;
    await page.waitForSelector(link, { timeout: 20000 });
  } catch {
    fault(`search.html: ${query} does not find ${wanted}`);
  }
  await page.screenshot({ path: join(folder, `search-${query}.png`) });
  await page.close();
}
await browser.close();
process.exit(found ? 1 : 0);
