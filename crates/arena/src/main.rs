//! Arena's command line.
fn main() {}
