//! One binary, many roles; see the library.

fn main() -> std::process::ExitCode {
    provisionerd::main()
}
