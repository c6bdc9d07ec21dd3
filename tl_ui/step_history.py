"""The browser's Back goes to the step before, as people on phones expect, instead of leaving the page."""

# Each step forward is an entry of the browser's history; a step back goes to the entry that is there already.
BACK_IS_A_STEP_BACK = """() => {
  const tabs = () => [...document.querySelectorAll('#steps [role=tab]')];
  const now = () => tabs().findIndex((tab) => tab.getAttribute('aria-selected') === 'true');
  let at = now();
  const first = at;
  history.replaceState({ step: at }, '');
  new MutationObserver(() => {
    const to = now();
    if (to < 0 || to === at) return;
    const by = to - at;
    at = to;
    if (history.state?.step === to) return; // the browser went there itself
    if (by > 0) for (let step = to - by + 1; step <= to; step += 1) history.pushState({ step }, '');
    else if (to >= first) history.go(by);
    else history.replaceState({ step: to }, '');
  }).observe(document.querySelector('#steps'), { subtree: true, attributeFilter: ['aria-selected'] });
  addEventListener('popstate', ({ state }) => {
    const tab = tabs()[state?.step];
    if (state?.step < at) tab.click();
  });
}"""
