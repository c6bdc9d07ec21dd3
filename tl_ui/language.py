"""The language of the page: the one chosen on it, else the first of the browser's that there is.

Gradio picks labels by `navigator.language` and matches its name exactly, so a script that runs before Gradio's puts the
name that it knows there, also for `zh`, `zh-HK` or `en-GB`; and a cookie tells the server, whose sentences must match.
"""

import json
from html import escape as esc

from tl_ui.words import COOKIE, DEFAULT, LANGUAGES, LOCALES, table

_SCRIPT = """<script>
(() => {
  const locales = %(locales)s;
  const kept = (() => { try { return localStorage.getItem('%(cookie)s'); } catch { return null; } })();
  const all = [kept, ...navigator.languages].map((name) => (name ?? '').toLowerCase().split('-')[0]);
  const language = all.find((name) => name in locales) ?? '%(default)s';
  Object.defineProperty(navigator, 'language', { get: () => locales[language] });
  Object.defineProperty(navigator, 'languages', { get: () => [locales[language]] });
  document.documentElement.lang = locales[language];
  const framed = location.protocol === 'https:' ? 'SameSite=None; Secure; Partitioned' : 'SameSite=Lax';
  document.cookie = `%(cookie)s=${language}; Path=/; Max-Age=31536000; ${framed}`;
})();
</script>"""
# For a button: what the page does to be in another language from now on.
SWITCH = f"(name) => {{ try {{ localStorage.setItem('{COOKIE}', name); }} catch {{}} location.reload(); }}"
# Of what `everywhere` gives, the page shows one.
CSS = "".join(
    f"html[lang|={language}] [data-in]:not([data-in={language}]) {{ display: none; }}\n" for language in LANGUAGES
)


def names() -> dict[str, str]:
    """Each language's own name, by its code."""
    return {language: table(language)["language.name"] for language in LANGUAGES}


def everywhere(key: str) -> str:
    """A fixed label in all languages, as HTML of which the page shows one: it is there from the first moment on, and in
    HTML with several labels, of which Gradio translates the first only."""
    return "".join(f'<span data-in="{language}">{esc(table(language)[key])}</span>' for language in LANGUAGES)


def script() -> str:
    """For the page's head, before Gradio's own."""
    locales = json.dumps({language: LOCALES[language] for language in LANGUAGES})
    return _SCRIPT % {"locales": locales, "cookie": COOKIE, "default": DEFAULT}
