// Opens the gateway's page in Debian's Chromium, switches a relay with its
// button, and prints what it saw as one JSON object.
//   node page.mjs URL DEVICE SCREENSHOT
import { chromium } from 'playwright-core';

const [url, device, screenshot] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const complaints = [];
try {
  const page = await browser.newPage({ viewport: { width: 1100, height: 700 } });
  page.on('console', (m) => { if (m.type() === 'error') complaints.push(m.text()); });
  page.on('pageerror', (e) => complaints.push(String(e)));
  await page.goto(url);
  await page.waitForSelector('#link.up', { timeout: 15000 });
  const card = page.locator('.card', { has: page.locator('h2', { hasText: new RegExp(`^${device}$`) }) });
  const value = () => card.locator('dd').first().innerText();
  const before = await value();
  await card.getByRole('button', { name: 'on', exact: true }).click();
  await card.locator('dd', { hasText: /^on/ }).first().waitFor({ timeout: 15000 });
  const after = await value();
  const cards = await page.locator('.card h2').allInnerTexts();
  const states = await page.locator('.card .state').allInnerTexts();
  await page.screenshot({ path: screenshot, fullPage: true });
  console.log(JSON.stringify({ before, after, cards, states, complaints, title: await page.title() }));
} finally {
  await browser.close();
}
