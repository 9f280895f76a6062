// Marks, the Check button, hints, copy buttons, menu and theme.
// Everything that comes from the network is put on the page as text, never as HTML.
'use strict';
(() => {
  const root = document.documentElement;
  const exercises = new Map(); // slug → { solved, running, position, attempts, checks }
  let isSignedIn = false;

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // --- marks ---------------------------------------------------------------------------------

  // Exercises without checks are marked as done by whoever reads, in this browser only.
  const isDone = (slug) => { try { return localStorage.getItem(`arena-done:${slug}`) === '1'; } catch { return false; } };
  const setDone = (slug, done) => { try { done ? localStorage.setItem(`arena-done:${slug}`, '1') : localStorage.removeItem(`arena-done:${slug}`); } catch { /* No storage: the mark is gone with the page. */ } };

  const isFailing = (state) => !state.solved && (state.checks ?? []).some((check) => !check.passed);
  const word = (state) => (!state ? '' : state.solved ? 'solved' : state.running ? 'being checked' : isFailing(state) ? 'not yet' : '');
  const kind = (state) => (!state ? '' : state.running ? 'running' : state.solved ? 'solved' : isFailing(state) ? 'failing' : '');

  function paint() {
    for (const link of document.querySelectorAll('[data-mark]')) {
      const state = exercises.get(link.dataset.mark);
      const done = !state?.solved && isDone(link.dataset.mark);
      const said = done ? 'done, as you say' : word(state);
      const mark = link.querySelector('.mark');
      mark.className = `mark ${done ? 'done' : kind(state)}`;
      mark.replaceChildren(make('span', 'hidden', said && `, ${said}`));
    }
    for (const progress of document.querySelectorAll('[data-progress]')) {
      const marks = [...progress.closest('section').querySelectorAll('[data-mark]')];
      progress.textContent = isSignedIn ? `${marks.filter((mark) => exercises.get(mark.dataset.mark)?.solved).length} of ${marks.length}` : '';
    }
    const all = document.querySelectorAll('[data-mark]');
    const total = document.getElementById('total');
    total.hidden = !isSignedIn || all.length === 0;
    total.textContent = `${[...all].filter((mark) => exercises.get(mark.dataset.mark)?.solved).length} / ${all.length} solved`;
    document.querySelectorAll('[data-exercise]').forEach(paintExercise);
  }

  function paintExercise(panel) {
    const state = exercises.get(panel.dataset.exercise) ?? {};
    panel.querySelector('.exercise-head .mark').className = `mark ${kind(state)}`;
    panel.classList.toggle('is-solved', Boolean(state.solved));
    const own = panel.querySelector('[data-done]');
    if (own) {
      const done = isDone(panel.dataset.exercise);
      own.setAttribute('aria-pressed', String(done));
      own.textContent = done ? 'Done, as you say' : 'Mark as done';
      if (done) panel.querySelector('.exercise-head .mark').className = 'mark done';
      return;
    }
    const button = panel.querySelector('[data-check]');
    button.disabled = !isSignedIn || Boolean(state.running);
    button.textContent = state.running ? 'Checking …' : 'Check';
    const checks = state.checks ?? [];
    const line = panel.querySelector('[data-state]');
    const text = sentence(state, checks);
    if (line.textContent !== text) line.textContent = text;
    const list = panel.querySelector('[data-checks]');
    list.hidden = checks.length === 0;
    list.replaceChildren(...checks.map((check) => {
      const item = make('li', check.passed ? 'passed' : 'failed');
      item.append(make('span', 'hidden', check.passed ? 'Passed: ' : 'Not yet: '), make('strong', '', check.name));
      if (!check.passed && check.message) item.append(message(check.message));
      return item;
    }));
    for (const hint of panel.querySelectorAll('.hint')) {
      const missing = Number(hint.dataset.after) - (state.attempts ?? 0);
      const isLocked = isSignedIn && !state.solved && missing > 0;
      hint.classList.toggle('is-locked', isLocked);
      if (isLocked) hint.open = false;
      hint.querySelector('.when').textContent = isLocked ? ` opens after ${missing} more ${missing === 1 ? 'try' : 'tries'}` : '';
    }
  }

  function sentence(state, checks) {
    if (state.trouble) return state.trouble;
    if (!isSignedIn) return 'Marks appear here when you are signed in.';
    if (state.running) return state.position > 0 ? `In the queue: ${state.position} before you.` : 'Checking …';
    const passed = checks.filter((check) => check.passed).length;
    if (state.solved) return checks.length > passed ? 'Solved. What you have now would not pass any more; your result stays.' : 'Solved. Well done!';
    return checks.length === 0 ? 'Not checked yet.' : `${passed} of ${checks.length} checks pass.`;
  }

  // `code` in a message becomes code; everything stays text.
  function message(text) {
    const paragraph = make('p', 'message');
    String(text).split('`').forEach((part, index, parts) => {
      const isCode = index % 2 === 1 && index < parts.length - 1;
      paragraph.append(isCode ? make('code', '', part) : index % 2 === 1 ? `\`${part}` : part);
    });
    return paragraph;
  }

  // --- the platform --------------------------------------------------------------------------

  async function load() {
    try {
      const response = await fetch('/_arena/state', { headers: { accept: 'application/json' } });
      isSignedIn = response.ok;
      if (response.ok) {
        const state = await response.json();
        for (const [slug, exercise] of Object.entries(state.exercises ?? {})) exercises.set(slug, exercise);
      }
    } catch {
      // Away for a moment: what is shown stays, the stream tries again.
    }
    paint();
  }

  let stream;
  function listen() {
    if (stream || document.hidden || !isSignedIn) return;
    let wasOpen = false;
    stream = new EventSource('/_arena/events');
    stream.addEventListener('open', () => {
      if (wasOpen) load();
      wasOpen = true;
    });
    stream.addEventListener('exercise', (event) => {
      const news = JSON.parse(event.data);
      const before = exercises.get(news.exercise) ?? {};
      exercises.set(news.exercise, { ...before, trouble: undefined, position: null, ...news, solved: Boolean(before.solved || news.solved) });
      paint();
      if (!news.running && news.attempts === undefined) load();
    });
  }

  // A browser allows few connections to a host: hidden tabs give theirs back.
  document.addEventListener('visibilitychange', async () => {
    if (document.hidden) {
      stream?.close();
      stream = undefined;
    } else {
      await load();
      listen();
    }
  });

  async function check(slug) {
    const before = exercises.get(slug) ?? {};
    exercises.set(slug, { ...before, running: true, trouble: undefined });
    paint();
    let trouble;
    try {
      const response = await fetch('/_arena/check', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ exercise: slug }),
      });
      if (!response.ok) trouble = await reason(response);
    } catch {
      trouble = 'Arena does not answer. Try again in a moment.';
    }
    if (trouble) {
      exercises.set(slug, { ...before, running: false, trouble });
      paint();
    }
  }

  async function reason(response) {
    const problem = await response.json().catch(() => ({}));
    return problem.detail ?? problem.title ?? problem.error ?? `Arena answered ${response.status}. Try again in a moment.`;
  }

  document.addEventListener('click', (event) => {
    const button = event.target.closest('[data-check]');
    if (button) check(button.closest('[data-exercise]').dataset.exercise);
    const own = event.target.closest('[data-done]');
    if (own) {
      const { exercise } = own.closest('[data-exercise]').dataset;
      setDone(exercise, !isDone(exercise));
      paint();
    }
    const locked = event.target.closest('.hint.is-locked > summary');
    if (locked) event.preventDefault();
  });

  // --- the page ------------------------------------------------------------------------------

  for (const button of document.querySelectorAll('.copy')) {
    if (!navigator.clipboard) break;
    button.hidden = false;
    button.addEventListener('click', async () => {
      const code = button.closest('.code').querySelector('code').textContent;
      // A prompt is not part of the command.
      const text = code.split('\n').some((line) => line.startsWith('$ '))
        ? code.split('\n').filter((line) => line.startsWith('$ ')).map((line) => line.slice(2)).join('\n')
        : code.replace(/\n$/, '');
      await navigator.clipboard.writeText(text);
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = 'Copy'; }, 1500);
    });
  }

  const menuButton = document.getElementById('menu-button');
  const setMenu = (isOpen) => {
    root.classList.toggle('menu-open', isOpen);
    menuButton.setAttribute('aria-expanded', String(isOpen));
  };
  menuButton.hidden = false;
  menuButton.addEventListener('click', () => setMenu(!root.classList.contains('menu-open')));
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && root.classList.contains('menu-open')) {
      setMenu(false);
      menuButton.focus();
    }
  });
  document.querySelector('.menu [aria-current]')?.scrollIntoView({ block: 'nearest' });

  const themeButton = document.getElementById('theme-button');
  themeButton.hidden = false;
  themeButton.addEventListener('click', () => {
    const isDark = getComputedStyle(root).getPropertyValue('--is-dark').trim() === '1';
    const system = matchMedia('(prefers-color-scheme: dark)').matches;
    const wanted = !isDark;
    if (wanted === system) delete root.dataset.theme;
    else root.dataset.theme = wanted ? 'dark' : 'light';
    try {
      localStorage.setItem('arena-theme', root.dataset.theme ?? 'system');
    } catch {
      // Storage is off: the choice holds for this page.
    }
  });

  load().then(listen);
})();
