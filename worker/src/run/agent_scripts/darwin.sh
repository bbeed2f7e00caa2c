#!/usr/bin/env sh
# Fetches the workspace agent for ${OS} on ${ARCH} and becomes it.
set -eu

url="${ACCESS_URL}bin/coder-${OS}-${ARCH}"
directory=$(mktemp -d -t coder-agent)
cd "$directory"

# A server that restarts must not leave the workspace without its agent.
until curl -fsSL --compressed "$url" -o coder; do
	echo "error: cannot fetch $url, next try in 30 s" >&2
	sleep 30
done
chmod +x coder

export CODER_AGENT_AUTH="${AUTH_TYPE}"
export CODER_AGENT_URL="${ACCESS_URL}"
exec ./coder agent
