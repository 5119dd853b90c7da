"""How the status page looks: one sheet, in the page itself, named to the browser by its hash. Pure.

Everything is legible without it: it only arranges. Colours say nothing that words do not say, too.
"""

import base64
import hashlib
from typing import Final

SHEET: Final = """
:root {
  color-scheme: light dark;
  --ink: #1a1c20; --soft: #5a606b; --paper: #f5f5f3; --card: #ffffff; --line: #dcdddb;
  --well: #17692e; --warning: #8a5200; --problem: #b3161c;
  --well-ground: #e2f2e5; --warning-ground: #fdf0d8; --problem-ground: #fde4e3;
  --bar: #3b6ea8; --groove: #e6e7e5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e7e8ea; --soft: #a2a8b3; --paper: #121418; --card: #1b1e24; --line: #31353d;
    --well: #7fd693; --warning: #f3bd62; --problem: #ff928c;
    --well-ground: #17301d; --warning-ground: #382a10; --problem-ground: #451b1c;
    --bar: #6ba3e0; --groove: #31353d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem) 2rem; max-width: 90rem;
  background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 0; }
h3 small { font-weight: 400; }
a { color: inherit; }
p { margin: .25rem 0; }
small, .soft { color: var(--soft); font-size: .87rem; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem .8rem; }
header p { flex-basis: 100%; color: var(--soft); margin: 0; }
.pill {
  padding: .1rem .7rem; border-radius: 1rem; font-weight: 650; white-space: nowrap;
  border: 1px solid currentColor;
}
.well { color: var(--well); }
.warning { color: var(--warning); }
.problem { color: var(--problem); }
.pill.well { background: var(--well-ground); }
.pill.warning { background: var(--warning-ground); }
.pill.problem { background: var(--problem-ground); }
.remarks { list-style: none; margin: 1rem 0 0; padding: 0; display: grid; gap: .4rem; }
.remarks li { padding: .5rem .8rem; border-radius: .4rem; border-left: .3rem solid; }
.remarks .warning { background: var(--warning-ground); border-color: var(--warning); }
.remarks .problem { background: var(--problem-ground); border-color: var(--problem); }
.remarks span { color: var(--ink); }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr));
  gap: .5rem; margin: 1rem 0 0;
}
.figures div, .card {
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
}
.figures div { padding: .5rem .75rem; display: flex; flex-direction: column; }
.figures dt { color: var(--soft); font-size: .87rem; }
.figures dd { margin: 0; }
.figures strong { font-size: 1.5rem; line-height: 1.25; font-weight: 600; }
.figures small { display: block; }
.card { padding: .75rem; margin: 0 0 .75rem; min-width: 0; }
.card > p:first-of-type { margin-top: 0; }
.columns { columns: 26rem 3; column-gap: .75rem; }
.columns .card { break-inside: avoid; }
.columns h2 { margin: 0 0 .4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .22rem .9rem .22rem 0; vertical-align: top; }
tr + tr > *, tbody tr > * { border-top: 1px solid var(--line); }
thead + tbody tr:first-child > *, thead tr > * { border-top: 0; }
thead th { color: var(--soft); font-weight: 500; font-size: .87rem; white-space: nowrap; }
tbody th { font-weight: 500; }
td:last-child, th:last-child { padding-right: 0; }
.n { text-align: right; white-space: nowrap; }
.list { text-align: right; }
.state { white-space: nowrap; font-weight: 600; }
.hosts { margin-top: .5rem; }
.hosts tbody th { font-weight: 600; }
.hosts small, .hosts .state small { font-weight: 400; white-space: normal; }
@media (min-width: 44.01rem) {
  .hosts { table-layout: fixed; }
  .hosts th:nth-child(1) { width: 23%; }
  .hosts th:nth-child(2) { width: 19%; }
  .hosts th:nth-child(3) { width: 11%; }
  .hosts th:nth-child(4) { width: 8%; }
  .hosts th:nth-child(5) { width: 9%; }
  .hosts th:nth-child(7) { width: 8%; }
  .hosts th:nth-child(8) { width: 10%; }
  .hosts .state { white-space: normal; }
}
meter {
  display: block; width: 100%; min-width: 5rem; height: .5rem; margin: .15rem 0 0;
  border: 0; border-radius: .25rem; background: var(--groove);
}
meter::-webkit-meter-inner-element { border: 0; }
meter::-webkit-meter-bar {
  background: var(--groove); border: 0; border-radius: .25rem; height: .5rem;
}
meter::-webkit-meter-optimum-value { background: var(--bar); border-radius: .25rem; }
meter::-webkit-meter-suboptimum-value { background: var(--warning); border-radius: .25rem; }
meter::-webkit-meter-even-less-good-value { background: var(--problem); border-radius: .25rem; }
meter::-moz-meter-bar { background: var(--bar); border-radius: .25rem; }
meter:-moz-meter-sub-optimum::-moz-meter-bar { background: var(--warning); }
meter:-moz-meter-sub-sub-optimum::-moz-meter-bar { background: var(--problem); }
footer { margin-top: 1.5rem; color: var(--soft); }
@media (max-width: 44rem) {
  .columns { columns: 1; }
  .hosts thead {
    position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  }
  .hosts, .hosts tbody { display: block; }
  .hosts tbody tr {
    display: grid; grid-template-columns: 1fr 1fr; gap: .1rem .75rem; padding: .5rem 0;
    border-top: 1px solid var(--line);
  }
  .hosts tbody tr > * { border: 0; padding: .05rem 0; text-align: left; white-space: normal; }
  .hosts tbody th, .hosts tbody .state { grid-column: 1 / -1; }
  .hosts td[data-label]::before {
    content: attr(data-label); display: block; color: var(--soft); font-size: .8rem;
  }
}
@media print { body { background: none; } .columns { columns: 2; } }
"""

# Of exactly what stands between the tags (CSP level 2, section 7.12).
_HASH: Final = base64.b64encode(hashlib.sha256(SHEET.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
