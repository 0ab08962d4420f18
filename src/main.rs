//! The binary: hands the command line to [`segdns::cli`].

fn main() -> std::process::ExitCode {
    segdns::cli::main()
}
