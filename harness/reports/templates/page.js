
"use strict";
(() => {
  const page = document.documentElement;
  const byId = id => document.getElementById(id);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  page.classList.add("js");

  // -- theme --

  const themes = ["system", "light", "dark"], button = byId("theme");
  const showTheme = theme => {
    theme === "system" ? page.removeAttribute("data-theme") : page.setAttribute("data-theme", theme);
    button.textContent = `Theme: ${theme}`;
  };
  let saved = "system";
  try { saved = localStorage.getItem("theme") || saved; } catch { /* local files may have no storage */ }
  showTheme(themes.includes(saved) ? saved : "system");
  button.addEventListener("click", () => {
    const current = page.getAttribute("data-theme") || "system", next = themes[(themes.indexOf(current) + 1) % 3];
    showTheme(next);
    try { localStorage.setItem("theme", next); } catch { /* see above */ }
  });

  // -- tables that sort by any column --

  const value = cell => (!cell || cell.classList.contains("masked") ? "" : cell.dataset.sort ?? cell.textContent.trim());
  const sort = (table, column, direction) => {
    const factor = direction === "ascending" ? 1 : -1;
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter(row => row.cells.length > 1);
      const values = new Map(rows.map(row => [row, value(row.cells[column])]));
      body.append(...rows.sort((one, other) => {
        const a = values.get(one), b = values.get(other);
        if (a === "" || b === "") return (a === "") - (b === "");
        const x = Number(a), y = Number(b);
        return factor * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y);
      }));
    }
  };
  const showOrder = (table, column, direction) => all("thead th", table).forEach((head, index) => {
    index === column ? head.setAttribute("aria-sort", direction) : head.removeAttribute("aria-sort");
  });
  const nextDirection = head => {
    const first = head.dataset.first, second = first === "ascending" ? "descending" : "ascending";
    return head.getAttribute("aria-sort") === first ? second : first;
  };
  for (const head of all("thead th[data-first]")) {
    const table = head.closest("table");
    if (table.id !== "board") head.firstElementChild.addEventListener("click", () => {
      const direction = nextDirection(head);
      sort(table, head.cellIndex, direction);
      showOrder(table, head.cellIndex, direction);
    });
  }

  // -- the leaderboard: one view, which the address of the page keeps --

  const board = byId("board");
  if (!board) return;
  const form = byId("filters"), published = byId("published"), toggle = byId("toggle");
  const rows = [...board.tBodies[0].rows], heads = [...board.tHead.rows[0].cells];
  const columns = heads.slice(1).map(head => head.dataset.key);
  const picks = all(".pick", board), rowOf = pick => pick.closest("tr");
  const isOnly = row => rows.filter(other => other.dataset.label === row.dataset.label).length === 1;
  const names = new Map(rows.map(row => [row, row.dataset.label + (isOnly(row) ? "" : ` (${row.dataset.recipe})`)]));
  const texts = new Map(all("tr[data-label]", board).map(
    row => [row, `${row.dataset.label} ${row.dataset.recipe}`.toLowerCase()]));
  const marked = all("td[data-marks]", board.tBodies[0]);
  const filled = new Map(rows.map(row => [row, heads.slice(1)
    .filter(head => head.dataset.kind === "task" && row.cells[head.cellIndex].textContent !== "")
    .map(head => [head.dataset.key, row.cells[head.cellIndex]])]));
  const style = document.head.appendChild(document.createElement("style"));
  let order = null, compared = [], hidden = new Set();

  const filter = () => {
    const terms = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    const recipe = form.elements.recipe?.value ?? "";
    const marks = all("[name=mark]:checked", form).map(box => box.value);
    hidden = new Set(all("[name=column]:not(:checked)", form).map(box => box.value));
    const selectors = columns.flatMap((key, at) => hidden.has(key) ? [`#board tr > :nth-child(${at + 2})`] : []);
    style.textContent = selectors.length ? `${selectors.join()} { display: none; }` : "";
    for (const cell of marked) cell.classList.toggle("masked", marks.some(mark => cell.dataset.marks.includes(mark)));
    const matches = row => terms.every(term => texts.get(row).includes(term));
    for (const row of rows) {
      const isScored = filled.get(row).some(([key, cell]) => !hidden.has(key) && !cell.classList.contains("masked"));
      row.hidden = !isScored || !matches(row) || (recipe !== "" && row.dataset.recipe !== recipe);
    }
    if (published) for (const row of all("tr[data-label]", published)) row.hidden = !matches(row);
    const shown = rows.filter(row => !row.hidden).length;
    byId("count").textContent = `${shown} of ${rows.length} entries`;
    byId("none").hidden = shown > 0;
  };

  const arrange = () => {
    const column = order ? heads.indexOf(order.head) : -1;
    order ? sort(board, column, order.direction) : board.tBodies[0].append(...rows);
    showOrder(board, column, order?.direction);
  };

  const { tests } = JSON.parse(byId("pair-tests").textContent);
  const verdicts = new Map([[1, "better"], [-1, "worse"], [0, "tied"], [null, "unknown: one run each"]]);
  const addCell = (line, text, tag = "td") => {
    const cell = line.appendChild(document.createElement(tag));
    cell.textContent = text;
    return cell;
  };
  const addScore = (line, cell) => {
    const copy = line.appendChild(cell.cloneNode(true)), figure = copy.querySelector(".figure");
    copy.classList.remove("masked");
    if (cell.dataset.ends) copy.querySelector(".spread").append(`\n${figure.title.split(": ").pop()}`);
  };
  const compare = () => {
    if (!byId("pair")) return;
    const section = byId("comparison"), pair = [...compared].sort((one, other) => rows.indexOf(one) - rows.indexOf(other));
    for (const pick of picks) pick.checked = compared.includes(rowOf(pick));
    section.hidden = pair.length < 2;
    byId("pair").textContent = pair.length === 0 ? "Tick two entries to compare them."
      : pair.length === 1 ? `Tick another entry to compare it with ${names.get(pair[0])}.`
      : `A: ${names.get(pair[0])}. B: ${names.get(pair[1])}.`;
    if (pair.length < 2) return;
    const [first, second] = pair, [a, b] = pair.map(row => rows.indexOf(row));
    const body = section.querySelector("tbody");
    body.replaceChildren();
    for (const head of heads.filter(head => head.dataset.kind === "task" && !hidden.has(head.dataset.key))) {
      const line = body.insertRow(), one = first.cells[head.cellIndex], other = second.cells[head.cellIndex];
      addCell(line, head.querySelector("button").textContent, "th").scope = "row";
      addScore(line, one);
      addScore(line, other);
      const test = tests[head.dataset.key]?.[a]?.[b - a - 1];
      if (test) {
        for (const text of test.slice(0, 4)) addCell(line, text);
        addCell(line, verdicts.get(test[4])).className = "text";
      } else {
        const isEmpty = one.textContent === "" || other.textContent === "";
        const reason = addCell(line, isEmpty ? "not run by both" : "no test: other rows, marks that keep one out, or unknown whether higher is better");
        [reason.colSpan, reason.className] = [5, "text muted"];
      }
    }
  };

  // -- the address --

  const address = () => {
    const view = new URLSearchParams();
    for (const name of ["q", "recipe"]) if (form.elements[name]?.value) view.set(name, form.elements[name].value);
    for (const key of hidden) view.append("without", key);
    for (const box of all("[name=mark]:checked", form)) view.append("hide", box.value);
    if (order) view.append(order.direction, order.head.dataset.key ?? "");
    for (const row of compared) view.append("compare", names.get(row));
    if (toggle?.getAttribute("aria-expanded") === "true") view.append("published", "shown");
    return `#${view}`;
  };
  const expand = isExpanded => {
    if (!toggle) return;
    published.classList.toggle("collapsed", !isExpanded);
    toggle.setAttribute("aria-expanded", isExpanded);
    toggle.querySelector(".verb").textContent = isExpanded ? "Hide" : "Show";
  };
  let timer;
  const readAddress = () => {
    clearTimeout(timer);
    const view = new URLSearchParams(location.hash.slice(1));
    form.elements.q.value = view.get("q") ?? "";
    const options = form.elements.recipe?.options ?? [];
    for (const option of options) option.selected = option.value === (view.get("recipe") ?? "");
    for (const box of all("[name=column]", form)) box.checked = !view.getAll("without").includes(box.value);
    for (const box of all("[name=mark]", form)) box.checked = view.getAll("hide").includes(box.value);
    order = null;
    for (const direction of ["ascending", "descending"]) {
      const head = view.has(direction) && heads.find(head => (head.dataset.key ?? "") === view.get(direction));
      if (head) order = { head, direction };
    }
    compared = picks.map(rowOf).filter(row => view.getAll("compare").includes(names.get(row))).slice(0, 2);
    expand(view.get("published") === "shown");
    filter();
    arrange();
    compare();
    byId("link").href = address();
  };
  const keepAddress = () => {
    byId("link").href = address();
    clearTimeout(timer); // browsers limit how often an address may change
    timer = setTimeout(() => history.replaceState(null, "", byId("link").href), 200);
  };

  // -- what the user does --

  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", event => {
    filter();
    if (event.target.name === "mark") arrange(); // hidden results are last
    if (event.target.name === "column") compare();
    keepAddress();
  });
  form.addEventListener("reset", event => {
    event.preventDefault();
    history.replaceState(null, "", "#");
    readAddress();
  });
  for (const head of heads) head.firstElementChild.addEventListener("click", () => {
    order = { head, direction: nextDirection(head) };
    arrange();
    keepAddress();
  });
  for (const choice of all("[data-columns]", form)) choice.addEventListener("click", () => {
    for (const box of all("[name=column]", form)) box.checked = choice.dataset.columns === "all";
    filter();
    compare();
    keepAddress();
  });
  for (const pick of picks) pick.addEventListener("change", () => {
    compared = pick.checked ? [...compared, rowOf(pick)].slice(-2) : compared.filter(row => row !== rowOf(pick));
    compare();
    if (compared.length === 2 && pick.checked) byId("pair").scrollIntoView({ block: "nearest" });
    keepAddress();
  });
  toggle?.addEventListener("click", () => {
    expand(toggle.getAttribute("aria-expanded") !== "true");
    keepAddress();
  });
  addEventListener("hashchange", readAddress);

  // -- downloads of what is shown --

  const shownCell = (cell, isText) => {
    const isEmpty = cell.classList.contains("masked") || cell.textContent === "";
    const number = isEmpty || isText || cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
    const [low, high] = isEmpty || !cell.dataset.ends ? [null, null] : cell.dataset.ends.split(" ").map(Number);
    const shown = isEmpty ? null : cell.querySelector(".figure").textContent;
    return { shown, value: number, low, high, marks: isEmpty ? "" : cell.dataset.marks ?? "" };
  };
  const shownRows = () => [...board.tBodies[0].rows].filter(row => !row.hidden).map(row => ({
    model: row.dataset.label,
    recipe: row.dataset.recipe,
    columns: Object.fromEntries(heads.slice(1).filter(head => !hidden.has(head.dataset.key)).map(
      head => [head.dataset.key, shownCell(row.cells[head.cellIndex], head.dataset.kind === "text")])),
  }));
  const quoted = item => {
    if (typeof item !== "string") return item ?? "";
    const isFormula = /^[=+\-@\t\r]/.test(item) && !/^[-+]?\d+([.,]\d+)?$/.test(item);
    return `"${(isFormula ? "'" : "") + item.replaceAll('"', '""')}"`;
  };
  const asCsv = lines => {
    const keys = columns.filter(key => !hidden.has(key)), isText = key => heads[columns.indexOf(key) + 1].dataset.kind === "text";
    const head = keys.flatMap(key => isText(key) ? [key] : [key, `${key}_low`, `${key}_high`, `${key}_marks`]);
    const body = lines.map(line => [line.model, line.recipe, ...keys.flatMap(key => {
      const { shown, value, low, high, marks } = line.columns[key];
      return isText(key) ? [shown] : [value, low, high, marks];
    })]);
    return [["model", "recipe", ...head], ...body].map(line => line.map(quoted).join() + "\n").join("");
  };
  for (const button of all("[data-download]", form)) button.addEventListener("click", () => {
    const ending = button.dataset.download, lines = shownRows();
    const text = ending === "csv" ? asCsv(lines) : JSON.stringify({ view: address(), rows: lines }, null, 1) + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: ending === "csv" ? "text/csv" : "application/json" }));
    link.download = `${form.dataset.file}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href));
  });

  readAddress();
})();
