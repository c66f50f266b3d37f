// A table of buttons in a gr.HTML: a click fills the form, arrows move, and one of its buttons is in the order of tabs.
element.addEventListener("click", (event) => {
  const tile = event.target.closest(".tile");
  if (tile) trigger("select", { fields: tile.dataset.fields });
});
element.addEventListener("keydown", (event) => {
  const tile = event.target.closest(".tile");
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!tile || !step) return;
  const cell = tile.closest("td"), row = cell.parentElement;
  const other = row.parentElement.rows[row.sectionRowIndex + step[0]]?.cells[cell.cellIndex + step[1]]?.querySelector(".tile");
  event.preventDefault();
  if (!other) return;
  tile.tabIndex = -1;
  other.tabIndex = 0;
  other.focus();
});
