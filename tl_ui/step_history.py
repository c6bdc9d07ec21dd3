"""The browser's Back goes to the step before, as people on phones expect, instead of leaving the page."""

# Each step has an entry in the browser's history, one behind the other; the page's own Back goes to the entry there is.
# Forward does not lead on: what comes after a step is for its button to say.
BACK_IS_A_STEP_BACK = """() => {
  const tabs = () => [...document.querySelectorAll('#steps [role=tab]')];
  const now = () => tabs().findIndex((tab) => tab.getAttribute('aria-selected') === 'true');
  let at = now();
  const push = (from) => {
    for (let step = from + 1; step <= at; step += 1) history.pushState({ step }, '');
  };
  history.scrollRestoration = 'manual';
  if (!(history.state?.step <= at)) history.replaceState({ step: 0 }, '');
  push(history.state.step);
  new MutationObserver(() => {
    const before = at;
    at = now() < 0 ? at : now();
    if (history.state?.step === at) return; // the browser went there itself
    if (at > before) push(before);
    else if (at < before) history.go(at - before);
  }).observe(document.querySelector('#steps'), { subtree: true, attributeFilter: ['aria-selected'] });
  addEventListener('popstate', ({ state }) => {
    if (state?.step > at) history.go(at - state.step);
    if (!(state?.step < at)) return;
    tabs()[state.step].click();
    tabs()[state.step].focus({ preventScroll: true });
    window.scrollTo(0, 0);
  });
  window.tlStepsAreThere = true;
}"""


def remember(step: int) -> str:
    """For a step that is shown: the memory names it, once the page has been found again."""
    return f"(memory) => (window.tlStepsAreThere ? {{ ...memory, step: {step} }} : memory)"
