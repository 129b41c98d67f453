#!/usr/bin/env bash
# The browser that tests of the local control plane's pages drive: the distribution's, where it can be installed.
set -euo pipefail

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    if apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; then
        exit 0
    fi
fi
echo "No browser: the tests that need one are skipped. Install chromium and chromedriver to run them." >&2
