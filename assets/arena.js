() => {
  // Arrow keys, digits and Backspace press the five buttons while they can be seen and nobody is typing.
  if (window.soulsmithVotes) return;
  window.soulsmithVotes = true;
  const votes = {ArrowLeft: 'left', 1: 'left', ArrowRight: 'right', 2: 'right', ArrowUp: 'tie', 3: 'tie',
                 ArrowDown: 'bad', 4: 'bad', Backspace: 'undo'};
  document.addEventListener('keydown', (event) => {
    const vote = votes[event.key];
    if (!vote || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest('input, textarea, select, [contenteditable]')) return;
    const button = document.getElementById('vote-' + vote);
    if (!button || button.offsetParent === null || button.disabled) return;
    event.preventDefault();
    button.click();
  });
}
