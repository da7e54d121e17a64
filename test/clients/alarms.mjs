// Opens the gateway's page in Debian's Chromium, waits until a device's alarm
// is listed and until it is listed no more, and prints what it saw as one JSON
// object.
//   node alarms.mjs URL DEVICE
import { chromium } from 'playwright-core';

const [url, device] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const complaints = [];
try {
  const page = await browser.newPage();
  page.on('console', (m) => { if (m.type() === 'error') complaints.push(m.text()); });
  page.on('pageerror', (e) => complaints.push(String(e)));
  await page.goto(url);
  await page.waitForSelector('#link.up', { timeout: 15000 });
  const card = page.locator('.card', { has: page.locator('h2', { hasText: new RegExp(`^${device}$`) }) });
  const entry = card.locator('.alarms li');
  const listed = [await entry.innerText({ timeout: 30000 })];
  await entry.waitFor({ state: 'detached', timeout: 30000 });
  const hidden = await card.locator('.alarms').isHidden();
  await entry.waitFor({ state: 'visible', timeout: 30000 }); // raised again while we look
  console.log(JSON.stringify({ listed, hidden, complaints }));
} finally {
  await browser.close();
}
