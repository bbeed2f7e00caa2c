//! The scripts that start a workspace agent on a fresh machine. The `coder` provider
//! takes them from `CODER_AGENT_SCRIPT_<os>_<arch>`, fills in `${ACCESS_URL}` and
//! `${AUTH_TYPE}` and offers the result as `coder_agent.init_script`.

const LINUX: &str = include_str!("agent_scripts/linux.sh");
const DARWIN: &str = include_str!("agent_scripts/darwin.sh");
const WINDOWS: &str = include_str!("agent_scripts/windows.ps1");

/// Operating systems and architectures that Coder builds agents for.
const PLATFORMS: [(&str, &str, &str); 7] = [
    ("linux", "amd64", LINUX),
    ("linux", "arm64", LINUX),
    ("linux", "armv7", LINUX),
    ("darwin", "amd64", DARWIN),
    ("darwin", "arm64", DARWIN),
    ("windows", "amd64", WINDOWS),
    ("windows", "arm64", WINDOWS),
];

/// Environment name and script of each platform.
pub(super) fn all() -> impl Iterator<Item = (String, String)> {
    PLATFORMS.into_iter().map(|(os, arch, script)| {
        let script = script.replace("${OS}", os).replace("${ARCH}", arch);
        (format!("CODER_AGENT_SCRIPT_{os}_{arch}"), script)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_leaves_exactly_what_the_provider_fills_in() {
        let scripts: Vec<_> = all().collect();
        assert_eq!(scripts.len(), 7);
        for (name, script) in scripts {
            let platform = name
                .trim_start_matches("CODER_AGENT_SCRIPT_")
                .replace('_', "-");
            assert!(
                script.contains(&format!("${{ACCESS_URL}}bin/coder-{platform}")),
                "{name}"
            );
            let left = script
                .replace("${ACCESS_URL}", "")
                .replace("${AUTH_TYPE}", "");
            assert!(!left.contains("${"), "{name}");
        }
    }
}
