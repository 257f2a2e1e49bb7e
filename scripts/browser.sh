#!/bin/sh
# Finds Chromium for the browser tests, or installs it. Prints its path, or "playwright".
set -eu

find_browser() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" 2>/dev/null && return 0
    done
    for path in "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
                "/Applications/Chromium.app/Contents/MacOS/Chromium"; do
        [ -x "$path" ] && echo "$path" && return 0
    done
    return 1
}

find_browser && exit 0
echo "No Chromium found: installing one for the browser tests ..." >&2
if command -v apt-get >/dev/null 2>&1; then
    sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    if $sudo apt-get update -qq >&2 && $sudo apt-get install -y -qq chromium >&2; then
        find_browser && exit 0
    fi
fi
# Playwright can download a Chromium of its own, which the tests find by themselves.
if .venv/bin/playwright install chromium >&2; then
    echo "playwright"
    exit 0
fi
echo "The browser tests need Chromium or Chrome, and none could be installed." >&2
echo "Install it (Debian: apt-get install chromium; macOS: brew install --cask chromium) and run this again." >&2
exit 1
