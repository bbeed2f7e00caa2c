#!/usr/bin/env sh
# Fetches the workspace agent for ${OS} on ${ARCH} and becomes it.
set -eu

url="${ACCESS_URL}bin/coder-${OS}-${ARCH}"
directory=$(mktemp -d -t coder-agent.XXXXXX)
cd "$directory"

fetch() {
	if command -v curl >/dev/null 2>&1; then
		curl -fsSL --compressed "$url" -o coder
	elif command -v wget >/dev/null 2>&1; then
		wget -q "$url" -O coder
	elif command -v busybox >/dev/null 2>&1; then
		busybox wget -q "$url" -O coder
	else
		echo "error: curl, wget or busybox is needed to fetch the agent" >&2
		exit 127
	fi
}

# A server that restarts must not leave the workspace without its agent.
until fetch; do
	echo "error: cannot fetch $url, next try in 30 s" >&2
	sleep 30
done
chmod +x coder

export CODER_AGENT_AUTH="${AUTH_TYPE}"
export CODER_AGENT_URL="${ACCESS_URL}"
exec ./coder agent
