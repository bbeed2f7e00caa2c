# Fetches the workspace agent for ${OS} on ${ARCH} and runs it.
$ErrorActionPreference = "Stop"
$ProgressPreference = "SilentlyContinue"

$url = "${ACCESS_URL}bin/coder-${OS}-${ARCH}.exe"
$agent = Join-Path $env:TEMP "coder-agent.exe"
[Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]::Tls12

# A server that restarts must not leave the workspace without its agent.
while ($true) {
	try {
		Invoke-WebRequest -Uri $url -OutFile $agent -UseBasicParsing
		break
	} catch {
		Write-Output "error: cannot fetch $url : $_, next try in 30 s"
		Start-Sleep -Seconds 30
	}
}

$env:CODER_AGENT_AUTH = "${AUTH_TYPE}"
$env:CODER_AGENT_URL = "${ACCESS_URL}"
& $agent agent
exit $LASTEXITCODE
