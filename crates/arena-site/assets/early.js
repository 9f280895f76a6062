// Runs before anything is painted: what the reader chose, and where the page is shown.
'use strict';
(() => {
  const root = document.documentElement;
  root.classList.add('js');
  if (window.self !== window.top) root.classList.add('embedded');
  try {
    const theme = localStorage.getItem('arena-theme');
    if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
  } catch {
    // Storage is off: the system's choice holds.
  }
})();
